-- Claim ready jobs. A flag says that the node has claimed nothing else anywhere.

local function operation()
    local want = num()
    claiming.alone = flag()
    return done(told_claims(claim(want)))
end
