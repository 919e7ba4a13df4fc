-- Forget what has expired, at most so much of it; how much was.

local limit = num()
return done((drop_expired(limit)))
