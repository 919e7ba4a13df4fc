-- One task, as it is: place, need, lease, worker, generation, attempt, policy of retries, params, result timeout, whether
-- it was begun.

local function operation()
    local row = task(arg())
    if not row then return '' end
    local params = row.place ~= 'over' and params_of(row) or ''
    return {
        row.place, row.need, row.lease or '', row.worker or '', row.generation, row.attempt or 0, row.retry, params,
        row.result_due and int(row.result_due) or '', row.accepted and 1 or 0,
    }
end
