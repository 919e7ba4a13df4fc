-- Steps: a job's new state and all its effects.

local steps = {}
local TASK_WORDS = 3

local step_form = forms(function(
    n, status, ends, consumed, lines, wake_after, end_tasks, keep_claim, reserves, count, fans_out, to_tell, events)
    return {
        n = n, status = status, ends = ends, consumed = consumed, lines = lines, wake_after = wake_after,
        end_tasks = end_tasks, keep = keep_claim, reserves = reserves, tasks = count, fans_out = fans_out,
        to_tell = to_tell, events = events,
    }
end)

-- Read a step, as a call brings it, into the table of what brings it: `decided` is what it has in common with others.
function steps.read(step)
    local form = step_form(args[at + 1])
    step.decided, step.commit, step.state, step.history, step.FROM = form, args[at + 2], args[at + 3], args[at + 4], at + 4
    at = at + 4 + TASK_WORDS * form.tasks
    if form.fans_out then
        step.fan = {total = num(), fail_fast = num(), chunks = {}}
        for i = 1, num() do
            local size = num()
            step.fan.chunks[i] = {at + 1, at + size}
            at = at + size
        end
    end
end

function steps.made_with(key, need, text, dispatch, result)
    local priority, execution, retry, lost_after, reserves, by_price = terms_of(text)
    return {
        key = key, need = need, text = text, dispatch = dispatch, result = result, priority = priority,
        execution = execution, retry = retry, lost_after = lost_after, reserves = reserves,
        by_price = by_price, packed = pack(key, need, priority, execution, retry, lost_after or false),
    }
end
local task_form = forms(steps.made_with)

-- Make a task, whose timeouts count from when it was dispatched.
function steps.create_task(row, id, form, carried, dispatched)
    local one = new_task(id, row.ID, row.open_step, form)
    if fan_of(row) then one.branch = '1' end
    carry(one, carried)
    if form.dispatch then one.dispatch_due = dispatched + form.dispatch end
    if form.result then one.result_due = dispatched + form.result end
    enqueue(one)
    return one
end

-- Which steps of a job made how many tasks, for when these are deleted. The row is written with each step, and so has the
-- last ones alone, after a sign that the others are in a list.
local MOST_MADE = 200
local function note_made(row, total)
    if row.made and #row.made > MOST_MADE then
        write('RPUSH', P .. 'm:' .. row.ID, row.made)
        row.made = '+'
    end
    row.made = (row.made or '') .. ' ' .. int(row.open_step) .. ':' .. int(total)
end

local function create_tasks(row, step)
    local form = step.decided
    row.open_step, row.open_count = form.n - 1, form.tasks
    row.progress, row.message = nil, nil
    row.FAN = false
    local money = form.reserves and money_of(row)
    if money then money.reserved = money.reserved + form.reserves end
    local total = form.tasks
    if step.fan then
        local chunks = #step.fan.chunks
        total = step.fan.total
        row.FAN = {
            step = row.open_step, total = total, fail_fast = step.fan.fail_fast, pending = total,
            spawned = form.tasks, queued = form.tasks, failed = 0, progress = 0, bytes = 0, over = 0, chunks = chunks,
            first_chunks = chunks, dispatched = NOW,
        }
        for i, chunk in ipairs(step.fan.chunks) do
            local key = P .. 'c:' .. row.ID .. '-' .. int(row.open_step) .. '-' .. int(i)
            for from = chunk[1], chunk[2], 5000 do
                write('RPUSH', key, unpack(args, from, math.min(from + 4999, chunk[2])))
            end
        end
    end
    note_made(row, total)
    local first = step.FROM
    for from = first, first + TASK_WORDS * (form.tasks - 1), TASK_WORDS do
        steps.create_task(row, args[from + 1], task_form(args[from + 2]), args[from + 3], NOW)
    end
    if step.fan then fans.want_spawn(row) end
end

-- There are events that somebody is to be told of, in a job's newest lines of history: after which line they begin, and
-- which of them is the last. Where there are some already, these begin where they did, and are due when they were.
local function note_events(row, before, place)
    local known = read('HGET', P .. 'happened', row.ID)
    if not known then put('ZADD', P .. 'events', NOW_TEXT, row.ID) end
    local after = known and words(known)[1] or int(before)
    put('HSET', P .. 'happened', row.ID, after .. ' ' .. int(before + place))
    hints.mine.o = true
end

-- Write a step and its effects; whoever calls has made sure that it may, and sees to the claim.
function steps.land(row, step)
    local form = step.decided
    set_state(row, step.state)
    row.status, row.step, row.commit = form.status, form.n, step.commit
    row.updated = NOW
    row.deliveries = nil
    row.wake = nil
    if row.inbox then inbox.consume(row, words(form.consumed)) end
    if form.events then note_events(row, row.told or 0, form.events) end
    if form.lines > 0 then history.tell(row, form.lines, step.history) end
    if form.ends then
        row.finished = NOW
        inbox.clear(row)
        put('ZADD', P .. 'over', NOW_TEXT, row.ID)
        if form.to_tell then
            put('ZADD', P .. 'ends', NOW_TEXT, row.ID)
            hints.mine.e = true
        end
    end
    if form.end_tasks or form.ends then
        local over = form.status == 'cancelled' and 'job_cancelled' or 'job_already_terminated'
        endings.end_open(row, form.end_tasks or over)
    end
    if form.tasks > 0 and not form.ends then create_tasks(row, step) end
    if form.wake_after and not form.ends then row.wake, row.wake_step = NOW + form.wake_after, form.n - 1 end
    if form.ends then row.spawn = nil end
end
