-- Which commands the user of a connection may not run on keys like these two, or on this channel where a command is about
-- channels. Before Redis 7 a server cannot be asked.

local CHANNELS = {PUBLISH = true, SUBSCRIBE = true}
local function operation(_, argv)
    local refused = {}
    if not redis.acl_check_cmd then return refused end
    for i = 4, #argv do
        local command, part = string.match(argv[i], '^(%u+)|?(%u*)$')
        for about = 1, CHANNELS[command] and 1 or 2 do
            local words = {command}
            if part ~= '' then words[2] = part end
            words[#words + 1] = argv[CHANNELS[command] and 3 or about]
            if not redis.acl_check_cmd(unpack(words)) and refused[#refused] ~= argv[i] then
                refused[#refused + 1] = argv[i]
            end
        end
    end
    return refused
end
