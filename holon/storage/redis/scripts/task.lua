-- One task, as it is: place, need, lease, worker, generation, attempt, policy of retries, params, result timeout, whether
-- it was begun, and to whom it does not go for now, as nobody below there could do it.

local function operation()
    local row = task(arg())
    if not row then return '' end
    local params = row.place ~= 'over' and params_of(row) or ''
    local unserved = {}
    for _, entry in ipairs(avoided(row)) do
        if entry[3] == '2' then unserved[#unserved + 1] = entry[1] end
    end
    return {
        row.place, row.need, row.lease or '', row.worker or '', row.generation, row.attempt or 0, row.retry, params,
        row.result_due and int(row.result_due) or '', row.accepted and 1 or 0, unserved,
    }
end
