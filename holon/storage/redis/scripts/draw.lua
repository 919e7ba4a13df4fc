-- A partition draws on a quota: up to how many jobs of the period it may make in all. What all partitions may make
-- together is never more than the limit. What one may make and has not, it keeps until that is recalled; the generation
-- of what it may says so to whoever still knows the older one.

local function operation()
    local name, limit, ends, own, used, generation, n, partitions = arg(), num(), num(), arg(), num(), num(), num(), num()
    local key = P .. 'quota:' .. name
    local shares, found = {}, read('HGETALL', key)
    for i = 1, #found, 2 do
        local granted, its, settled = match(found[i + 1], '^(%d+) (%d+) (%d)$')
        shares[found[i]] = {granted = tonumber(granted), generation = tonumber(its), settled = settled == '1'}
    end

    -- What a partition was found to have made when it was recalled: nothing is granted to it under that generation yet.
    local function recalled(partition, made, its)
        local share = shares[partition]
        if not share or its > share.generation then
            shares[partition] = {granted = made, generation = its, settled = true, CHANGED = true}
        end
    end
    for _ = 1, num() do recalled(arg(), num(), num()) end
    if not shares[own] then shares[own] = {granted = 0, generation = 0, settled = true} end
    recalled(own, used, generation)

    local room = limit
    for partition, share in pairs(shares) do
        if partition ~= own then room = room - share.granted end
    end
    local share = shares[own]
    local wanted = used + n
    -- Beyond what is wanted, half of what it would get if all drew alike; all of it, where there is no other.
    local more = math.floor(math.max(0, room - wanted) / (partitions > 1 and 2 * partitions or 1))
    local granted = math.max(share.granted, math.min(room, wanted + more))
    if granted > share.granted then share.granted, share.settled, share.CHANGED = granted, false, true end

    local answer = {math.max(0, math.min(granted, room)), share.generation, {}}
    for partition, other in pairs(shares) do
        if other.CHANGED then
            write('HSET', key, partition,
                int(other.granted) .. ' ' .. int(other.generation) .. ' ' .. (other.settled and '1' or '0'))
        end
        if partition ~= own and not other.settled and answer[1] < wanted then table.insert(answer[3], partition) end
    end
    write('ZADD', P .. 'ends', int(ends), 'q' .. name)
    return shared_done(answer)
end
