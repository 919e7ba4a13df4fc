-- Turn the next chunk of a fan-out into tasks, if few enough of its branches wait for a lease. A branch whose time is over
-- by then ends at once; it may be the one that ends the others.

-- The words of a task in a chunk, which also another release may have written. Most are as in the one before.
local STORED_WORDS = 8
local alike = {}
local function make_stored(row, from, dispatched)
    local id, key, need, params, text, dispatch, result, trace = unpack(args, from + 1, from + STORED_WORDS)
    dispatch, result = tonumber(dispatch), tonumber(result)
    if alike.text ~= text or alike.need ~= need or alike.key ~= key or alike.dispatch ~= dispatch
        or alike.result ~= result then
        alike = steps.made_with(key, need, text, dispatch, result)
    end
    return steps.create_task(row, id, alike, carried_text(params, trace), dispatched)
end

local function operation()
    local row, step = job(arg()), num()
    local fan = row and fan_of(row)
    if not fan or over(row) or fan.over == 1 or fan.step ~= step or fan.chunks == 0 then return done({}) end
    if fan.queued < fans.BELOW then
        local key = P .. 'c:' .. row.ID .. '-' .. int(step) .. '-' .. int(fan.first_chunks - fan.chunks + 1)
        args = read('LRANGE', key, 0, -1)
        local count = #args / STORED_WORDS
        write('DEL', key)
        fan.chunks, fan.spawned, fan.queued = fan.chunks - 1, fan.spawned + count, fan.queued + count
        row.open_count = (row.open_count or 0) + count
        row.spawn = nil
        local made = {}
        for i = 1, count do made[i] = make_stored(row, (i - 1) * STORED_WORDS, fan.dispatched) end
        for _, one in ipairs(made) do
            if one.place ~= 'over' then endings.out_of_time(one) end
        end
    end
    fans.want_spawn(row)
    return done({})
end
