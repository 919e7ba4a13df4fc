-- Make a session its worker's current one. Leases that it does not resume go back to the queue at once.

local function operation()
    local id, session, credits, order, keeps, takes, instance = arg(), arg(), num(), num(), num(), num(), arg()
    local proof, holder = num(), worker(id)
    -- Sessions of a worker have an order, which the first partition gives: all partitions end up with the same one.
    if order and holder and (holder.opened or 0) > order then
        return done({'', {}, {}, int(order), {}, 0})
    end
    local first = not order
    -- Whoever has a weaker proof of the id does not replace a live session; one whose node is away is not live.
    if first and holder and holder.live and holder.live ~= AWAY_SESSION and (holder.proof or 0) > proof then
        return done({'', {}, {}, '', {}, 1})
    end
    if PARTITIONS > 1 then order = order or number() end
    local replaced = ''
    -- Asked again, for the reply was lost, it replaces nothing.
    if holder and holder.live and holder.session ~= session then
        replaced = holder.session
        -- It may be another node's; and that it is this one's is not known where the reply is lost.
        if first then tell_worker(holder, 'replaced', id, replaced, session, instance) end
    end
    -- The same process may have been offered what did not reach it. Another one has lost what the earlier one had.
    local other = instance ~= '' and holder and holder.instance ~= '' and holder.instance ~= instance
    local old = {}
    if holder then old = held.all(holder) else holder = new_worker(id) end
    holder.session, holder.live, holder.credits, holder.node, holder.opened = session, '1', credits, NODE, order
    holder.keeps, holder.takes, holder.instance, holder.proof = keeps, takes, instance, proof
    holder.FRESH, holder.HELD, holder.CHANGES, holder.BASE, holder.DROPPED = true, {}, {}, 0, #old / 2
    local kept, dropped = {}, {}
    for _ = 1, num() do
        local task_id, lease_id = arg(), arg()
        local row = task(task_id)
        if row and row.lease == lease_id and leasing.resume(row, holder) then
            leasing.tell_offer(kept, row, NOW)
        else
            dropped[#dropped + 1] = {task_id, lease_id, leasing.why_not(task_id, row, lease_id)}
        end
    end
    for i = 1, #old, 2 do
        local row = not holder.HELD[old[i]] and task(old[i + 1])
        if row and row.lease == old[i] and placed(row) then endings.lost(row, 'worker_replaced', other) end
    end
    return done({replaced, kept, dropped, order and int(order) or '', losses, 0})
end
