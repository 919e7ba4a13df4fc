-- Turn the next chunk of a fan-out into tasks, if few enough of its branches wait for a lease. A branch whose time is over
-- by then ends at once; it may be the one that ends the others.

local function operation()
    local row, step = job(arg()), num()
    local fan = row and fan_of(row)
    if not fan or over(row) or fan.over == 1 or fan.step ~= step or fan.chunks == 0 then return done({}) end
    if fan.queued < SPAWN_BELOW then
        local key = P .. 'c:' .. row.ID .. '-' .. int(step) .. '-' .. int(fan.first_chunks - fan.chunks + 1)
        args, at = read('LRANGE', key, 0, -1), 0
        local count = #args / TASK_ARGUMENTS
        write('DEL', key)
        fan.chunks, fan.spawned, fan.queued = fan.chunks - 1, fan.spawned + count, fan.queued + count
        row.open_count = (row.open_count or 0) + count
        row.spawn = nil
        local made = {}
        for i = 1, count do made[i] = create_task(row, fan.dispatched) end
        for _, one in ipairs(made) do
            if one.place ~= 'over' then out_of_time(one) end
        end
    end
    want_spawn(row)
    return done({})
end
