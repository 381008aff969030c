local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local refused, shadowed, said, kept = 0, 0, {}, {}
for i = 1, #KEYS do
  local at = (i - 1) * 6
  local kind, requests, window = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local burst, cost, shadow = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), ARGV[at + 6] == '1'
  local known = redis.call('GET', KEYS[i])
  local wait, before, after = -1, nil, nil
  if kind == 'b' then
    local each = window / requests
    local full = math.max(tonumber(known or '0') or 0, now)
    local over = full + each * cost - now - each * burst
    if cost > burst then wait = -2 elseif over > 0.5 then wait = math.ceil(over) end
    local function room(full)
      return math.max(math.floor((each * burst - (full - now)) / each + 0.000001), 0), math.ceil(full - now)
    end
    before = { room(full) }
    after = { room(full + each * cost) }
    kept[i] = { string.format('%.3f', full + each * cost), math.ceil((full + each * cost - now) / 1000) + 1 }
  else
    local turn = math.floor(now / window)
    local of, used, last = string.match(known or '', '^(%d+) (%d+) (%d+)$')
    of, used, last = tonumber(of or turn), tonumber(used or 0), tonumber(last or 0)
    if of == turn - 1 then used, last = 0, used elseif of < turn - 1 then used, last = 0, 0 end
    local into = math.min(math.max(now - turn * window, 0), window)
    local carried = 0
    if kind == 's' then carried = math.ceil(last * (window - into) / window) end
    local function fading(count, most)
      if count <= most then return 0 end
      return window - math.floor(most * window / count)
    end
    if used + carried + cost > requests then
      if cost > requests then wait = -2
      elseif kind == 'f' then wait = window - into
      elseif used <= requests - cost then wait = math.max(fading(last, requests - cost - used) - into, 1)
      else wait = window - into + fading(used, requests - cost) end
    end
    before = { math.max(requests - used - carried, 0), window - into }
    after = { math.max(requests - used - carried - cost, 0), window - into }
    local keep = window - into
    if kind == 's' then keep = keep + window end
    kept[i] = { string.format('%.0f %.0f %.0f', turn, used + cost, last), math.ceil(keep / 1000) + 1 }
  end
  if wait ~= -1 then
    kept[i] = nil
    if shadow then shadowed = shadowed + 2 ^ (i - 1) elseif refused == 0 then refused = i end
  end
  said[i] = { before, after, wait }
end
local out = { refused, shadowed }
for i = 1, #KEYS do
  local room = said[i][1]
  if refused == 0 and kept[i] then
    redis.call('SET', KEYS[i], kept[i][1], 'PX', kept[i][2])
    room = said[i][2]
  end
  out[#out + 1], out[#out + 2], out[#out + 3] = room[1], room[2], said[i][3]
end
return out
