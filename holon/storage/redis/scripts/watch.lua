-- Note that a node wants to hear of every change of a job, or no more.

local function operation()
    local id, on = arg(), flag()
    local watchers = watchers_without(read('HGET', P .. 'watched', id) or '', {[NODE] = true})
    if on then watchers = watchers == '' and NODE or watchers .. ' ' .. NODE end
    keep_watchers(id, watchers)
    return done({})
end
