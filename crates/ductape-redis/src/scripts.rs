//! What must be asked and done at once, as scripts of the server.
//!
//! Redis claims and acknowledges whatever id it is told, whoever has it by then. Each of these looks first: at the
//! key of the elected member, or at whom an entry is pending with.

use redis::Script;
use std::sync::LazyLock;

/// KEYS: stream, leader's key. ARGV: group, consumer, ids in the stream's order.
/// Makes those of them young again that are pending with the consumer, and answers which. What else is pending with it
/// was let go or never came to it, and must grow old, so that somebody claims it.
pub(crate) static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local asked, owned, from, last = {}, {}, ARGV[3], ARGV[#ARGV]
for i = 3, #ARGV do asked[ARGV[i]] = true end
while true do
  local page = redis.call('XPENDING', KEYS[1], ARGV[1], from, last, 1000, ARGV[2])
  local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
  for _, row in ipairs(page) do
    if asked[row[1]] then
      claim[#claim + 1] = row[1]
      owned[#owned + 1] = row[1]
    end
  end
  if #claim > 5 then
    claim[#claim + 1] = 'JUSTID'
    redis.call(unpack(claim))
  end
  if #page < 1000 then return owned end
  from = '(' .. page[#page][1]
end
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer, token or nothing, number of acks, their ids, then an id and a
/// count in turn. Settles what is the consumer's: of an elected member everything, as long as its token is the one in
/// the key; else each that is pending with it. Answers the ids that are not the consumer's, or nil where its token is not in the key.
pub(crate) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local group, consumer, token, acks = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if token ~= '' and redis.call('GET', KEYS[2]) ~= token then return false end
local lost = {}
local function mine(id)
  if token ~= '' or #redis.call('XPENDING', KEYS[1], group, id, id, 1, consumer) > 0 then return true end
  lost[#lost + 1] = id
  return false
end
for i = 5, 4 + acks do
  if mine(ARGV[i]) then redis.call('XACK', KEYS[1], group, ARGV[i]) end
end
for i = 5 + acks, #ARGV, 2 do
  if mine(ARGV[i]) then
    redis.call('XCLAIM', KEYS[1], group, consumer, 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
  end
end
return lost
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer, who gets what it has, token or nothing, how much too high the
/// counts of all others are, then an id and its count in turn. Gives everything that is pending with the consumer away,
/// so old that any member may take it at once. Then the consumer is gone, and the key if it is its own.
pub(crate) static LEAVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local group, consumer, heir, token, excess = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if token ~= '' and redis.call('GET', KEYS[2]) == token then redis.call('DEL', KEYS[2]) end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local counts, given = {}, 0
for i = 6, #ARGV, 2 do counts[ARGV[i]] = ARGV[i + 1] end
while true do
  local page = redis.call('XPENDING', KEYS[1], group, '-', '+', 1000, consumer)
  if #page == 0 then break end
  for _, row in ipairs(page) do
    local count = counts[row[1]] or math.max(row[4] - excess, 0)
    redis.call('XCLAIM', KEYS[1], group, heir, 0, row[1], 'TIME', 0, 'RETRYCOUNT', count, 'JUSTID')
    given = given + 1
  end
  if #redis.call('XPENDING', KEYS[1], group, page[1][1], page[1][1], 1, consumer) > 0 then break end
end
if #redis.call('XPENDING', KEYS[1], group, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer)
end
return given
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer. Forgets a consumer with which nothing is pending.
pub(crate) static TIDY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer, token, lease in milliseconds. Renews the lease of the elected
/// member. Answers 1, or nil where its token is not in the key.
pub(crate) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return false end
return redis.call('PEXPIRE', KEYS[2], ARGV[4])
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer, token, count. Reads what is new in the group, if the token is in
/// the key. Answers nil where it is not, an empty list where nothing is new.
pub(crate) static LEADERS_READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return false end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], '>')
return read and read[1][2] or {}
",
    )
});

/// KEYS: stream, leader's key. ARGV: group, consumer, token, from, count. Takes over a page of what is pending with
/// others, from an id on, if the token is in the key. Answers nil where it is not; else the last id looked at, if
/// there may be more, the counts of what is taken, and its entries.
pub(crate) static TAKE_OVER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return false end
local page = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[4], '+', ARGV[5])
local claim, counts = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}, {}
for _, row in ipairs(page) do
  claim[#claim + 1] = row[1]
  counts[#counts + 1] = row[1]
  counts[#counts + 1] = row[4] + 1
end
local last = #page == tonumber(ARGV[5]) and page[#page][1] or ''
return {last, counts, #page > 0 and redis.call(unpack(claim)) or {}}
",
    )
});
