-- Claim ready jobs.

return done(told_claims(claim(num())))
