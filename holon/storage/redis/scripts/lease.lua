-- Lease the heads of the backlog.

read_seats()
return done(lease())
