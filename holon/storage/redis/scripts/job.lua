-- One job.

local function operation()
    local told = record(arg())
    return told or ''
end
