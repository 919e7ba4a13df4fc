-- One job.

return record(arg()) or ''
