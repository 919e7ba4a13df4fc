-- Write a step under its claim, or nothing.

-- What a commit offered, as far as it still stands, and as it was then.
local function offered_before(row)
    local offers, known = {}, words(row.reply)
    if known[1] ~= row.commit then return offers end
    for i = 3, #known, 2 do
        local one = task(known[i])
        if one and one.lease == known[i + 1] and one.place == 'offered' then
            leasing.tell_offer(offers, one, tonumber(known[2]))
        end
    end
    return offers
end

local function operation()
    local id, claim_id, step = arg(), arg(), {}
    steps.read(step)
    local form = step.decided
    local want = num()
    read_seats()
    local row = job(id)
    if row and row.commit == step.commit then
        local events = row.claim == claim_id and inbox.unread(row) or {}
        return done({0, row.cancels and 1 or 0, events, {offered_before(row), leasing.still_waiting()}, {}})
    end
    if not row or not row.claim or row.claim ~= claim_id or form.n ~= row.step + 1 then
        return done({1, 0, {}, {{}, leasing.still_waiting()}, {}})
    end
    if form.reserves and not costs.affords(row, form.reserves) then return done({2, 0, {}, {{}, {}}, {}}) end
    steps.land(row, step)
    local events = {}
    if form.keep and not form.ends then
        row['until'] = NOW + settings.claim
        events = inbox.unread(row)
    else
        unclaim(row)
    end
    local cancel_pending = row.cancels and 1 or 0
    local answer, leased = {{}, NONE}, NONE
    if cancel_pending == 1 then answer[2] = leasing.still_waiting() else answer, leased = lease() end
    if leased[1] then
        local reply = {step.commit, int(NOW)}
        for _, one in ipairs(leased) do
            reply[#reply + 1], reply[#reply + 2] = one.ID, one.lease
        end
        row.reply = concat(reply, ' ')
    end
    return done({0, cancel_pending, events, answer, told_claims(claim(want))})
end
