-- End tasks that still wait for a lease behind a match key.

local function operation()
    for _ = 1, num() do
        local row, key = task(arg()), arg()
        local code, bytes, size, message = arg(), arg(), arg(), arg()
        if row and row.place == 'queued' and row.key == key then
            endings.task_over(row, {
                bytes = bytes, form = {status = 'failure', code = code}, message = message, worker = '', size = size,
                untried = true,
            })
        end
    end
    return done({})
end
