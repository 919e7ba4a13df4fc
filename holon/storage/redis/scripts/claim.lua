-- Claim ready jobs.

local function operation()
    return done(told_claims(claim(num())))
end
