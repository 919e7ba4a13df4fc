-- Lines of jobs' history, of each after one: number of the last, lines, number of the last, lines...; where to go on, if
-- that were not all.

local LOOK_AT = 2000

local function lines_after(id, after, limit)
    local row, found = job(id), {}
    local told = row and row.told or 0
    local to = math.min(told, after + LOOK_AT)
    history.visit(id, after + 1, to, function(last, lines)
        found[#found + 1], found[#found + 2] = last, lines
        return #found >= 2 * limit
    end)
    return {found, #found < 2 * limit and to < told and to or 0}
end

local function operation()
    local answers = {}
    for i = 1, num() do answers[i] = lines_after(arg(), num(), num()) end
    return answers
end
