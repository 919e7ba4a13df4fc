-- Write a step under its claim, or nothing.

-- What a commit offered, as far as it still stands, and as it was then.
local function offered_before(row)
    local offers, known = {}, words(row.reply)
    if known[1] ~= row.commit then return offers end
    for i = 3, #known, 2 do
        local one = task(known[i])
        if one and one.lease == known[i + 1] and one.place == 'offered' then
            offers[#offers + 1] = offer_of(one, tonumber(known[2]))
        end
    end
    return offers
end

local function operation()
    local id, claim_id, step = arg(), arg(), read_step()
    local form = step.form
    local want = num()
    read_seats()
    local row = job(id)
    if row and row.commit == step.commit then
        local events = row.claim == claim_id and unread(row) or {}
        return done({0, row.cancels and 1 or 0, events, {offered_before(row), still_waiting()}, {}})
    end
    if not row or not row.claim or row.claim ~= claim_id or form.n ~= row.step + 1 then
        return done({1, 0, {}, {{}, still_waiting()}, {}})
    end
    if form.reserves and not affords(row, form.reserves) then return done({2, 0, {}, {{}, {}}, {}}) end
    land(row, step)
    local events = {}
    if form.keep and not form.ends then
        row['until'] = NOW + CLAIM
        events = unread(row)
    else
        unclaim(row)
    end
    local cancel_pending = row.cancels and 1 or 0
    local leased = cancel_pending == 1 and {{}, still_waiting()} or lease()
    if leased[1][1] then
        local reply = {step.commit, int(NOW)}
        for _, offer in ipairs(leased[1]) do
            reply[#reply + 1], reply[#reply + 2] = offer[3], offer[4]
        end
        row.reply = concat(reply, ' ')
    end
    return done({0, cancel_pending, events, leased, told_claims(claim(want))})
end
