-- History: texts of one or more lines each, by the number of the last one.

local history = {}
local backlog = 0
function history.lines_of(id) return P .. 'h:' .. id .. ':' end

-- Go through the lines that are stored of a job, from one number to another: `visit` gets the number of the last of them
-- and what they are, and may end it by answering true.
function history.visit(id, from, to, visit)
    for first = from, to, 100 do
        local keys = {}
        for last = first, math.min(first + 99, to) do keys[#keys + 1] = history.lines_of(id) .. int(last) end
        for i, lines in ipairs(read('MGET', unpack(keys))) do
            if lines and visit(first + i - 1, lines) then return end
        end
    end
end

function history.tell(row, count, lines)
    row.told = (row.told or 0) + count
    local last = int(row.told)
    -- As `lines_of` says.
    keep(P .. 'h:' .. row.ID .. ':' .. last, lines)
    if MAX_BACKLOG then
        put('ZADD', P .. 'outbox', number(), row.ID .. ':' .. last)
        backlog = backlog + #lines
        hints.mine.n = true
    end
end
