-- Give claims back unused: whether each was still its holder's.

local function operation()
    local answer = {}
    for i = 1, num() do
        local row, claim_id = job(arg()), arg()
        local ours = row and row.claim == claim_id
        if ours then
            row.deliveries = nil
            unclaim(row)
        end
        answer[i] = ours and 1 or 0
    end
    return done(answer)
end
