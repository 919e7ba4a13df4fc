-- The replies to some calls of this node were lost: the jobs that they handed over are ready again, as if they had not
-- been. Each call is named by what the claims begin with that it made.

local function operation()
    local lost = {}
    for _ = 1, num() do lost[arg()] = true end
    each_claimed(function(row)
        if lost[string.match(row.claim, '^(.*)%.')] then
            local before = (row.deliveries or 1) - 1
            row.deliveries = before > 0 and before or nil
            unclaim(row)
        end
    end)
    return done({})
end
