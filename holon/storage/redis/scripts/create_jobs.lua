-- Create jobs for one caller or several, all or none of each. A repeat of a request id answers with the job that it made.

-- Without a first step an item has so many lines of history.
local item_form = forms(function(owner, blueprint, status, asked_for, budget, counts_against, lines)
    return {
        owner = owner, blueprint = blueprint, status = status, asked_for = asked_for, budget = budget,
        counts_against = counts_against, lines = lines,
    }
end)

local function read_item()
    local form = item_form(args[at + 2])
    local item = {
        id = args[at + 1], key = nil, form = form, owner = form.owner, request = nil, digest = nil, quota = nil,
        known = nil, outcome = nil, is_new = nil, decided = nil, commit = nil, state = nil, history = nil, FROM = nil,
    }
    at = at + 2
    if form.asked_for then item.request, item.digest = arg(), arg() end
    if form.counts_against then
        item.quota = {name = arg(), ends = num(), allowed = num(), generation = arg(), last = flag()}
    end
    if form.lines then item.state, item.history = arg(), arg() else steps.read(item) end
    return item
end

-- The jobs that earlier calls made for these requests: by owner, by request.
local function made_before(items)
    local asked, made = {}, {}
    for _, item in ipairs(items) do
        if item.request then
            asked[item.owner] = asked[item.owner] or {}
            table.insert(asked[item.owner], item.request)
        end
    end
    for owner, requests in pairs(asked) do
        local known = {}
        for i, id in ipairs(read('HMGET', P .. 'r:' .. owner, unpack(requests))) do known[requests[i]] = id end
        made[owner] = known
    end
    return made
end

-- Whether any job has one of these ids: one that is there was made by this very call, whose reply was lost.
local function any_is_there(items)
    local keys = {}
    for i, item in ipairs(items) do
        item.key = P .. 'j:' .. item.id
        keys[i] = item.key
    end
    return read('EXISTS', unpack(keys)) > 0
end

local function create(item)
    local form = item.form
    local row = new_job(item.id, item.key, item.owner, form.blueprint, form.status)
    if form.budget then row.money = int(form.budget) .. ' 0' end
    put('ZADD', P .. 'o:' .. item.owner, row.N, item.id)
    if item.request then
        row.request, row.digest = item.request, item.digest
        put('HSET', P .. 'r:' .. item.owner, item.request, item.id)
    end
    if item.decided then
        steps.land(row, item)
    else
        set_state(row, item.state)
        if form.lines > 0 then history.tell(row, form.lines, item.history) end
    end
    if RUNS[row.status] then mark_ready(row) end
end

-- Decide what becomes of a caller's items; how many are new, and nil when so much history waits that none may be.
local function decide(items, made, some, full)
    local new, digests = 0, NONE
    for _, item in ipairs(items) do
        local known = item.request and made[item.owner][item.request]
        local row = known and not digests[known] and job(known)
        local digest = known and (digests[known] or row and row.digest)
        if digest then
            item.known, item.outcome = known, digest == item.digest and 'existing' or 'conflict'
        else
            local is_new = not (some and job(item.id))
            if is_new and full then return nil end
            local over_quota = is_new and item.quota and not quotas.count(item.quota)
            if is_new and not over_quota then
                new, item.is_new = new + 1, true
                if item.request then
                    if digests == NONE then digests = {} end
                    made[item.owner][item.request], digests[item.id] = item.id, item.digest
                end
            end
            item.outcome = over_quota and 'over_quota' or 'created'
        end
    end
    return new
end

local function outcomes(items)
    local found = {}
    for i, item in ipairs(items) do found[2 * i - 1], found[2 * i] = item.known or item.id, item.outcome end
    return found
end

-- Create a caller's jobs: how many are new. Else nothing is created, and that is nil, and what it is answered: how much
-- history waits to be moved, or the quotas that are to be drawn on first.
local function create_for(items, made, some, waited)
    local waits = waited and waited + backlog
    local new = decide(items, made, some, waits and waits >= MAX_BACKLOG)
    local short = quotas.short()
    local created = new and not short[1]
    quotas.count_all(created)
    if created then
        for _, item in ipairs(items) do
            if item.is_new then create(item) end
        end
        return new
    end
    for _, item in ipairs(items) do
        local known = item.request and made[item.owner]
        -- What this caller would have made; not what was there before.
        if known and known[item.request] and not job(known[item.request]) then known[item.request] = nil end
    end
    return nil, new and {'short', short} or {waits}
end

local function read_callers()
    local callers, items = {}, {}
    for i = 1, num() do
        local own = {}
        for n = 1, num() do
            local item = read_item()
            own[n], items[#items + 1] = item, item
        end
        seats = NONE
        local want = num()
        read_seats()
        callers[i] = {items = own, want = want, seats = seats, created = nil, leased = nil}
    end
    return callers, items
end

local function some_of(claims, first, last)
    local found = {}
    for i = first, last do found[#found + 1] = claims[i] end
    return found
end

local function operation()
    quotas.forget()
    local waited = MAX_BACKLOG and tonumber(read('HGET', P .. 'totals', 'history') or 0)
    local callers, items = read_callers()
    local made, some = made_before(items), any_is_there(items)
    local answers, want = {}, 0
    for i, caller in ipairs(callers) do
        caller.created, answers[i] = create_for(caller.items, made, some, waited)
        if caller.created then want = want + caller.want end
    end
    quotas.write()
    for i, caller in ipairs(callers) do
        seats = caller.seats
        if caller.created then caller.leased = lease() end
    end
    local claims, first = told_claims(claim(want)), 1
    for i, caller in ipairs(callers) do
        if caller.created then
            local last = math.min(#claims, first + caller.want - 1)
            -- Most need to be told no more than that all is created.
            local is_all = caller.created == #caller.items and last < first and caller.leased == NO_OFFERS
            answers[i] = is_all and 1 or {outcomes(caller.items), some_of(claims, first, last), caller.leased}
            first = last + 1
        end
    end
    return done(answers)
end
