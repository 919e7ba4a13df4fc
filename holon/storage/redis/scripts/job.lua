-- One job.

local told = record(arg())
return told or ''
