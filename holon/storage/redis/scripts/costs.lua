-- What jobs cost. Of a job with a budget each attempt is reserved before it can begin: with the step that makes its task,
-- or, where that does not say what it may cost, with the lease. With its outcome that becomes a charge, of no more than it.
-- What is not known to have ended stays reserved under its lease until its worker reports.

local costs = {}
local MOST_COST = 9007199254740991
-- Of so many leases it is waited for what they cost; a lease that is lost beyond them is charged all of it at once.
local MOST_UNREPORTED = 256

function costs.text(money)
    local values, leases = {int(money.budget), int(money.reserved)}, {}
    for lease_id in pairs(money.unreported) do leases[#leases + 1] = lease_id end
    table.sort(leases)
    for _, lease_id in ipairs(leases) do
        values[#values + 1], values[#values + 2] = lease_id, int(money.unreported[lease_id])
    end
    return concat(values, ' ')
end

local function left_of(row, money) return money.budget - (row.cost or 0) - money.reserved - unreported_of(row) end

-- Whether so much may be reserved of what is left of a job's budget.
function costs.affords(row, amount)
    local money = money_of(row)
    return not money or amount <= left_of(row, money)
end

-- What a job keeps for lost attempts, where its budget would cover so much without that; else nil.
function costs.eaten(row, amount)
    local money = money_of(row)
    local kept = money and unreported_of(row) or 0
    if kept > 0 and amount <= left_of(row, money) + kept then return kept end
    return nil
end

local function charge(owner, cost) owner.cost = math.min((owner.cost or 0) + cost, MOST_COST) end

-- No attempt of a task begins any more: what it has reserved is free.
function costs.free(row)
    if not row.reserved then return end
    local money = money_of(job(row.job))
    money.reserved = money.reserved - row.reserved
    row.reserved = nil
end

-- Charge a task's job for the attempt of its last lease; what that was charged, if anything.
function costs.settle(row, cost)
    if row.reserves then
        costs.free(row)
        if row.written_off then return row.reserves end
        cost = math.min(cost or row.reserves, row.reserves)
        money_of(job(row.job)).unreported[row.lease] = nil
    elseif cost and money_of(job(row.job)) then
        -- It may cost nothing.
        cost = 0
    end
    if cost then charge(job(row.job), cost) end
    return cost
end

-- A task's lease is over, and what its attempt costs will be known later, if ever.
function costs.leave(row)
    local kept = row.reserved
    if not kept then return end
    costs.free(row)
    if row.written_off then return end
    local unreported, count = money_of(job(row.job)).unreported, 0
    for _ in pairs(unreported) do count = count + 1 end
    if count < MOST_UNREPORTED then
        unreported[row.lease] = kept
    else
        -- The task may still go on under it, or end with its result.
        row.written_off = 1
        charge(job(row.job), kept)
    end
end

-- Whether a session of this id is a node's own, and no worker's.
function costs.is_nodes_own(worker_id) return string.sub(worker_id, 1, 1) == '@' end

-- A task's lease was lost: as `leave`, but what a node does by itself goes on wherever it is next.
function costs.lose(row)
    if not costs.is_nodes_own(row.worker) then costs.leave(row) end
end

-- Reserve what an attempt of a task may cost that does not say so itself, as its worker declares it; without a price it may
-- cost all that is left. Whether what is left of the job's budget is enough; if not, nothing has changed.
function costs.reserve(row, price)
    local owner = job(row.job)
    local money, had = money_of(owner), row.reserved or 0
    local left = left_of(owner, money) + had
    price = price or left
    if price > left then return false end
    money.reserved = money.reserved + price - had
    row.reserves = price > 0 and price or nil
    row.reserved = row.reserves
    return true
end

-- Reserve another attempt of a task, if what is left of its job's budget is enough. That of one that does not say what it
-- may cost is reserved once somebody takes it.
function costs.again(row)
    if row.by_price or not row.reserves or row.reserved then return true end
    local owner = job(row.job)
    if not costs.affords(owner, row.reserves) then return false end
    local money = money_of(owner)
    money.reserved = money.reserved + row.reserves
    row.reserved = row.reserves
    return true
end

-- A lease that was over goes on, under what was reserved for the next attempt, or else what was kept for it.
function costs.resumed(row)
    if not row.reserves then return end
    local money = money_of(job(row.job))
    local kept = money.unreported[row.lease]
    money.unreported[row.lease] = nil
    if kept and not row.reserved then
        money.reserved = money.reserved + kept
        row.reserved = kept
    end
end

-- A worker says, late, what the attempt of a lease cost that is over; what its job was charged, if anything.
function costs.reported(owner, lease_id, cost)
    local money = owner and money_of(owner)
    local kept = money and money.unreported[lease_id]
    if not kept then return nil end
    money.unreported[lease_id] = nil
    cost = math.min(cost or kept, kept)
    charge(owner, cost)
    return cost
end
