-- Steps: a job's new state and all its effects.

local TASK_ARGUMENTS = 8

-- A step as a call brings it.
local function read_step()
    local step = {
        job = args[at + 1], claim = args[at + 2], commit = args[at + 3], n = tonumber(args[at + 4]),
        status = args[at + 5], ends = args[at + 6] ~= '', state = args[at + 7], consumed = args[at + 8],
        lines = tonumber(args[at + 9]), history = args[at + 10], time = args[at + 11],
        wake_after = tonumber(args[at + 12]), end_tasks = args[at + 13] ~= '', keep = args[at + 14] ~= '',
        reserves = tonumber(args[at + 15]), tasks = tonumber(args[at + 16]), FROM = at + 16,
        fan = nil,
    }
    at = at + 16 + TASK_ARGUMENTS * step.tasks
    if flag() then
        step.fan = {total = num(), fail_fast = num(), chunks = {}}
        for i = 1, num() do
            local size = num()
            step.fan.chunks[i] = {at + 1, at + size}
            at = at + size
        end
    end
    return step
end

-- What a task is made with. Most are made as the one before.
local alike = {}
local function terms_of_task(key, need, text)
    if alike.text ~= text or alike.need ~= need or alike.key ~= key then
        local priority, execution, retry, lost_after, reserves = terms_of(text)
        alike = {
            text = text, key = key, need = need, priority = priority, execution = execution, retry = retry,
            lost_after = lost_after, reserves = reserves,
            packed = pack(key, need, priority, execution, retry, lost_after or false),
        }
    end
    return alike
end

-- Make a task out of the next arguments, whose timeouts count from when it was dispatched.
local function create_task(row, dispatched)
    local terms = terms_of_task(args[at + 2], args[at + 3], args[at + 5])
    local one = new_task(args[at + 1], row.ID, row.open_step, terms)
    if fan_of(row) then one.branch = '1' end
    carry_params(one, args[at + 4], args[at + 8])
    local dispatch, result = args[at + 6], args[at + 7]
    if dispatch ~= '' then one.dispatch_due = dispatched + dispatch end
    if result ~= '' then one.result_due = dispatched + result end
    at = at + TASK_ARGUMENTS
    enqueue(one)
    return one
end

local function create_tasks(row, step)
    row.open_step, row.open_count = step.n - 1, step.tasks
    row.progress, row.message = nil, nil
    row.FAN = false
    local money = step.reserves and money_of(row)
    if money then money.reserved = money.reserved + step.reserves end
    local total = step.tasks
    if step.fan then
        local chunks = #step.fan.chunks
        total = step.fan.total
        row.FAN = {
            step = row.open_step, total = total, fail_fast = step.fan.fail_fast, pending = total,
            spawned = step.tasks, queued = step.tasks, failed = 0, progress = 0, bytes = 0, over = 0, chunks = chunks,
            first_chunks = chunks, dispatched = NOW,
        }
        for i, chunk in ipairs(step.fan.chunks) do
            local key = P .. 'c:' .. row.ID .. '-' .. int(row.open_step) .. '-' .. int(i)
            for from = chunk[1], chunk[2], 5000 do
                write('RPUSH', key, unpack(args, from, math.min(from + 4999, chunk[2])))
            end
        end
    end
    row.made = (row.made or '') .. ' ' .. int(row.open_step) .. ':' .. int(total)
    at = step.FROM
    for _ = 1, step.tasks do create_task(row, NOW) end
    want_spawn(row)
end

-- Write a step and its effects; whoever calls has made sure that it may, and sees to the claim.
local function land(row, step)
    local after = at
    set_state(row, step.state)
    row.status, row.step, row.commit = step.status, step.n, step.commit
    row.updated = NOW
    row.deliveries = nil
    row.wake = nil
    if row.inbox then consume(row, words(step.consumed)) end
    if step.lines > 0 then tell(row, step.lines, step.history) end
    if step.ends then
        row.finished = NOW
        clear_inbox(row)
        put('ZADD', P .. 'over', NOW_TEXT, row.ID)
    end
    if step.end_tasks or step.ends then
        local cancelled = step.status == 'cancelled' or not step.ends
        end_open_tasks(row, cancelled and 'job_cancelled' or 'job_already_terminated')
    end
    if step.tasks > 0 and not step.ends then create_tasks(row, step) end
    if step.wake_after and not step.ends then row.wake, row.wake_step = NOW + step.wake_after, step.n - 1 end
    if step.ends then row.spawn = nil end
    at = after
end
