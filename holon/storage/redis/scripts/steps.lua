-- Steps: a job's new state and all its effects.

-- A step as a call brings it.
local function read_step()
    local step = {
        job = arg(), claim = arg(), commit = arg(), n = num(), status = arg(), ends = flag(), state = arg(),
        consumed = words(arg()), lines = num(), history = arg(), time = num(), wake_after = num(), end_tasks = flag(),
        keep = flag(), tasks = num(), FROM = at,
    }
    at = at + 12 * step.tasks
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

-- Make a task out of the next arguments.
local function create_task(row)
    local one = new_task(arg())
    one.n, one.job, one.step, one.place = number(), row.ID, row.open_step, 'queued'
    one.branch = fan_of(row) and '1' or nil
    one.key, one.need, one.params, one.priority = arg(), arg(), arg(), num()
    one.execution = num()
    local dispatch, result = num(), num()
    one.dispatch_due = dispatch and NOW + dispatch
    one.result_due = result and NOW + result
    one.retry = arg() .. ' ' .. arg() .. ' ' .. arg()
    one.generation = 1
    one.trace = arg()
    if one.trace == '' then one.trace = nil end
    enqueue(one)
end

local function create_tasks(row, step)
    row.open_step, row.open_count = step.n - 1, step.tasks
    row.progress, row.message = nil, nil
    row.FAN = false
    local total = step.tasks
    if step.fan then
        local chunks = #step.fan.chunks
        total = step.fan.total
        row.FAN = {
            step = row.open_step, total = total, fail_fast = step.fan.fail_fast, pending = total,
            spawned = step.tasks, queued = step.tasks, failed = 0, progress = 0, bytes = 0, over = 0, chunks = chunks,
            first_chunks = chunks,
        }
        for i, chunk in ipairs(step.fan.chunks) do
            local key = P .. 'c:' .. row.ID .. '-' .. int(row.open_step) .. '-' .. int(i)
            for from = chunk[1], chunk[2], 5000 do
                write('RPUSH', key, unpack(ARGV, from, math.min(from + 4999, chunk[2])))
            end
        end
    end
    row.made = (row.made and row.made .. ' ' or '') .. int(row.open_step) .. ':' .. int(total)
    at = step.FROM
    for _ = 1, step.tasks do create_task(row) end
    want_spawn(row)
end

-- Write a step and its effects; whoever calls has made sure that it may, and sees to the claim.
local function land(row, step)
    local after = at
    row.state = step.state
    row.status, row.step, row.commit, row.reply = step.status, step.n, step.commit, nil
    row.updated = NOW
    row.deliveries = nil
    row.wake = nil
    consume(row, step.consumed)
    if step.lines > 0 then tell(row, step.lines, 'e', step.history) end
    if step.ends then
        row.finished = NOW
        clear_inbox(row)
        write('ZADD', P .. 'over', int(NOW), row.ID)
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
