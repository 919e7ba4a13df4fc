-- Renew claims: whether each is still its holder's.

local function operation()
    local answer = {}
    for i = 1, num() do
        local row, claim_id = job(arg()), arg()
        local ours = row and row.claim == claim_id
        if ours then row['until'] = NOW + settings.claim end
        answer[i] = ours and 1 or 0
    end
    return done(answer)
end
