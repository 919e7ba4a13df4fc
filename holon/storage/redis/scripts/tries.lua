-- How often a task was tried, and by whom: "worker offered leased ended;" for each, with - for what did not come to pass.

local tries = {}

function tries.last(row)
    -- Looked for from the end: there may be many before it.
    local from = match(row.attempts, '^.*;()[^;]') or 1
    return string.sub(row.attempts, 1, from - 1), match(row.attempts, '^(%S+) (%S+) (%S+) (%S+);$', from)
end

function tries.set(row, earlier, who, offered, leased, ended)
    row.attempts = earlier .. who .. ' ' .. offered .. ' ' .. leased .. ' ' .. ended .. ';'
end

function tries.close(row)
    local attempts = row.attempts
    if attempts and string.sub(attempts, -2) == '-;' then
        row.attempts = string.sub(attempts, 1, -3) .. NOW_TEXT .. ';'
    end
end

-- Of those who failed a task it avoids the last alone: else it would wait once each of a few workers has failed it.
-- Those below whom nobody can do it are asked again together: else it would go round among a few of them for ever.
local function avoid(row, till, how)
    local text = ''
    for _, entry in ipairs(avoided(row)) do
        local ends = how == '2' and entry[3] == '2' and math.max(entry[2], till) or entry[2]
        if entry[1] ~= row.worker and ends > NOW and not (how == '1' and entry[3] == '1') then
            text = text .. entry[1] .. ' ' .. int(ends) .. ' ' .. entry[3] .. ';'
        end
    end
    row.avoid = text .. row.worker .. ' ' .. int(till) .. ' ' .. how .. ';'
end

-- An attempt is over, and its task is not: what it said of its progress is not that of the next one. Of a fan-out the newest
-- message stays: it may be that of any branch.
function tries.unsay(row)
    local owner = row.progress and job(row.job)
    if not owner then return end
    local fan = fan_of(owner)
    if not fan then
        owner.progress, owner.message = nil, nil
    elseif fan.step == row.step then
        fans.progressed(owner, fan, -row.progress)
    end
    row.progress = nil
end

local function requeue(row, avoid_until, how)
    tries.close(row)
    tries.unsay(row)
    row.place = 'queued'
    if avoid_until then avoid(row, avoid_until, how or '0') end
    enqueue(row)
    if row.branch then fans.queued(row, 1) end
end
