-- Give waiting tasks a new need, and with it a new place in the backlog, under their old arrival.

local function operation()
    for _ = 1, num() do
        local row, key, need = task(arg()), arg(), arg()
        if row and row.need ~= need and row.place ~= 'over' then
            if row.place == 'queued' then dequeued(row) end
            row.key, row.need, row.HEAD = key, need, nil
            if row.place == 'queued' then enqueue(row) end
        end
    end
    return done({})
end
