-- Jobs.

local function operation()
    local ids, keys, answers = {}, {}, {}
    for i = 1, num() do
        ids[i] = arg()
        keys[i] = P .. 'j:' .. ids[i]
    end
    fetch(keys)
    for i, id in ipairs(ids) do answers[i] = record(id) or '' end
    return answers
end
