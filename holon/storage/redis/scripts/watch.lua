-- Note that a node wants to hear of every change of jobs, or no more.

local function operation()
    local found, answers = {}, {}
    for i = 1, num() do
        local id, on = arg(), flag()
        local watchers = nodes.watchers_without(read('HGET', P .. 'watched', id) or '', {[NODE] = true})
        if on then watchers = watchers == '' and NODE or watchers .. ' ' .. NODE end
        found[id], answers[i] = watchers, 1
    end
    -- What was said of one last counts.
    for id, watchers in pairs(found) do nodes.keep_watchers(id, watchers) end
    return done(answers)
end
