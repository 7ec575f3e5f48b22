-- Every event of the log, one row each.
--
-- The row of an event is a function of the event alone (inserted_at aside, which
-- is no part of the key), so an event that is inserted twice collapses into one
-- row when parts merge. Until then a plain count() sees it twice: the views
-- count ids instead, and `activityfeed sql` reads with FINAL.
--
-- ORDER BY: people ask for a kind of event, in some days, of one author. It ends
-- in event_id, the identity of a row. event_time is not in it, because the id
-- already sorts by time.
CREATE TABLE IF NOT EXISTS db.events_local ON CLUSTER 'main'
(
    event_id           UInt64 COMMENT 'Snowflake: unique, sorts by time' CODEC(Delta(8), LZ4),
    event_type         LowCardinality(String) COMMENT 'PhotoPosted, UserFollowed, ...',
    event_time         DateTime64(3, 'UTC') COMMENT 'When the command was accepted' CODEC(Delta(8), LZ4),
    author_id          String COMMENT 'Whose followers care: the author of the photo, the followee; else the actor',
    actor_id           String COMMENT 'Who acted',
    target_id          String COMMENT 'To whom: the followee, who is blocked or muted; empty for photos',
    post_id            UInt64 COMMENT 'The post, 0 if the event is about none',
    media_count        UInt8 COMMENT 'Pictures of the post',
    caption_length     UInt16 COMMENT 'Characters of the caption; its text is not kept here',
    mentions           Array(String) COMMENT 'Users named in the caption',
    notification_level LowCardinality(String) COMMENT 'Of a follow: default, none, all; else empty',
    source             LowCardinality(String) COMMENT 'The process that accepted the command',
    log_topic          LowCardinality(String) COMMENT 'Where the row comes from, to trace it',
    log_partition      Int32,
    log_offset         Int64,
    inserted_at        DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row came in',

    -- "What did ann do?" and "what happened to this post?" are not in key order.
    INDEX by_actor actor_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_post post_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
PRIMARY KEY (event_type, toDate(event_time), author_id)
ORDER BY (event_type, toDate(event_time), author_id, event_id)
SETTINGS replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS db.events ON CLUSTER 'main' AS db.events_local ENGINE = Distributed('main', 'db', 'events_local', cityHash64(author_id));

-- Ready questions. All of them count distinct ids, so they are exact whatever
-- was inserted twice and not merged yet: no reader needs FINAL. On a cluster the
-- ids are merged over the shards.

-- How much happened each day, by type.
CREATE VIEW IF NOT EXISTS db.posts_daily ON CLUSTER 'main' AS
SELECT
    toDate(event_time) AS day,
    event_type,
    uniqExact(event_id) AS events,
    uniqExact(actor_id) AS actors
FROM db.events
GROUP BY day, event_type
ORDER BY day DESC, event_type;

-- Who posts most. Deletes count posts, not commands: a post may be deleted twice.
-- follows and unfollows count events, since a user may follow the same author again.
CREATE VIEW IF NOT EXISTS db.top_authors ON CLUSTER 'main' AS
SELECT
    author_id,
    uniqExactIf(event_id, event_type = 'PhotoPosted') AS posts,
    uniqExactIf(post_id, event_type = 'PhotoDeleted') AS deleted,
    uniqExactIf(event_id, event_type = 'UserFollowed') AS follows,
    uniqExactIf(event_id, event_type = 'UserUnfollowed') AS unfollows,
    minIf(event_time, event_type = 'PhotoPosted') AS first_post,
    maxIf(event_time, event_type = 'PhotoPosted') AS last_post
FROM db.events
WHERE event_type IN ('PhotoPosted', 'PhotoDeleted', 'UserFollowed', 'UserUnfollowed')
GROUP BY author_id
HAVING posts > 0
ORDER BY posts DESC, author_id;

-- What the services did with the events (proto/activityfeed/v1/delivery.proto),
-- one row each. fact_id names what was done: a repeat of the same work has the same
-- one and the same accept_time, so repeats meet in one partition and collapse.
CREATE TABLE IF NOT EXISTS db.deliveries_local ON CLUSTER 'main'
(
    fact_id          UInt64 COMMENT 'Hash of the name of what was done',
    fact_type        LowCardinality(String) COMMENT 'FanoutDone, PushOutcome, Poisoned',
    service          LowCardinality(String) COMMENT 'Who did it: feed, notify, analytics',
    accept_time      DateTime64(3, 'UTC') COMMENT 'When the command behind it was accepted' CODEC(Delta(8), LZ4),
    done_time        DateTime64(3, 'UTC') COMMENT 'When it was done' CODEC(Delta(8), LZ4),
    event_id         UInt64 COMMENT 'The event behind it, 0 if none' CODEC(Delta(8), LZ4),
    post_id          UInt64 CODEC(Delta(8), LZ4),
    author_id        String,
    audience         UInt32 COMMENT 'FanoutDone: how many were to have the post',
    written          UInt32 COMMENT 'FanoutDone: how many feeds or inboxes it was written to',
    user_id          String COMMENT 'PushOutcome: whose device',
    device_id        String COMMENT 'PushOutcome: the registration; no token, no address',
    provider         LowCardinality(String) COMMENT 'PushOutcome: webpush, fcm, apns',
    reason           LowCardinality(String) COMMENT 'PushOutcome, Poisoned: why',
    action           LowCardinality(String) COMMENT 'PushOutcome: ok, drop, prune, retry, pause',
    attempt          UInt16,
    event_type       LowCardinality(String) COMMENT 'Poisoned: what the record said it was',
    origin_topic     LowCardinality(String) COMMENT 'Poisoned: where the record lies',
    origin_partition Int32,
    origin_offset    Int64,
    log_topic        LowCardinality(String) COMMENT 'Where this row comes from, to trace it',
    log_partition    Int32,
    log_offset       Int64,
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row came in'
)
ENGINE = ReplicatedReplacingMergeTree
PARTITION BY toYYYYMM(accept_time)
PRIMARY KEY (fact_type, service, toDate(accept_time))
ORDER BY (fact_type, service, toDate(accept_time), fact_id)
SETTINGS replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS db.deliveries ON CLUSTER 'main' AS db.deliveries_local ENGINE = Distributed('main', 'db', 'deliveries_local', fact_id);

-- How fresh feeds are: from "accepted" to "written to the last feed", by the size
-- of the author's audience. What was done twice counts once, with its first time.
CREATE VIEW IF NOT EXISTS db.feed_freshness ON CLUSTER 'main' AS
SELECT
    multiIf(people = 0, '0', people < 10, '1-9', people < 100, '10-99', people < 1000, '100-999',
            people < 10000, '1,000-9,999', '10,000+') AS followers,
    count() AS posts,
    sum(feeds) AS deliveries,
    round(quantileExact(0.5)(ms)) AS p50_ms,
    round(quantileExact(0.99)(ms)) AS p99_ms,
    max(ms) AS max_ms
FROM
(
    SELECT
        fact_id,
        max(audience) AS people,
        max(written) AS feeds,
        min(dateDiff('millisecond', accept_time, done_time)) AS ms
    FROM db.deliveries
    WHERE fact_type = 'FanoutDone' AND service = 'feed'
    GROUP BY fact_id
)
GROUP BY followers
ORDER BY min(people);

-- How pushes ended: attempts, by provider and reason.
CREATE VIEW IF NOT EXISTS db.push_outcomes ON CLUSTER 'main' AS
SELECT
    provider,
    reason,
    action,
    uniqExact(fact_id) AS attempts,
    uniqExact(user_id) AS users,
    max(done_time) AS last
FROM db.deliveries
WHERE fact_type = 'PushOutcome'
GROUP BY provider, reason, action
ORDER BY provider, attempts DESC, reason, action;

-- What was put aside, by service and reason.
CREATE VIEW IF NOT EXISTS db.poison_reasons ON CLUSTER 'main' AS
SELECT
    service,
    reason,
    event_type,
    uniqExact(fact_id) AS records,
    min(done_time) AS first,
    max(done_time) AS last
FROM db.deliveries
WHERE fact_type = 'Poisoned'
GROUP BY service, reason, event_type
ORDER BY service, records DESC, reason, event_type;

-- How follower counts grow: who began to follow an author on a day, who stopped, and
-- how many followed at its end. A follow that changes a level, or a repeat, begins
-- nothing: only the change of an edge counts.
CREATE VIEW IF NOT EXISTS db.follower_growth ON CLUSTER 'main' AS
SELECT
    author_id,
    day,
    gained,
    lost,
    sum(gained - lost) OVER (PARTITION BY author_id ORDER BY day) AS followers
FROM
(
    SELECT
        author_id,
        toDate(event_time) AS day,
        toInt64(countIf(follows AND NOT followed)) AS gained,
        toInt64(countIf(NOT follows AND followed)) AS lost
    FROM
    (
        SELECT
            author_id,
            event_time,
            event_type = 'UserFollowed' AS follows,
            lagInFrame(event_type = 'UserFollowed', 1, false) OVER (
                PARTITION BY author_id, actor_id ORDER BY event_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS followed
        FROM
        (
            -- Repeats of a row are equal: one of each.
            SELECT DISTINCT event_id, event_type, event_time, author_id, actor_id
            FROM db.events
            WHERE event_type IN ('UserFollowed', 'UserUnfollowed')
        )
    )
    GROUP BY author_id, day
)
ORDER BY author_id, day;

-- Who stays: of the people who acted first in a week, how many acted in the weeks
-- after it.
CREATE VIEW IF NOT EXISTS db.retention ON CLUSTER 'main' AS
SELECT
    cohort,
    dateDiff('week', cohort, week) AS weeks_later,
    uniqExact(actor_id) AS people,
    round(100 * people / max(people) OVER (PARTITION BY cohort), 1) AS percent
FROM
(
    SELECT DISTINCT
        actor_id,
        toMonday(event_time) AS week,
        min(toMonday(event_time)) OVER (PARTITION BY actor_id) AS cohort
    FROM db.events
)
GROUP BY cohort, weeks_later
ORDER BY cohort, weeks_later;

-- What it takes to make the feeds anew from here (`activityfeed rebuild --from
-- clickhouse`) when the log has forgotten its beginning: the posts as they were
-- accepted, and which log a place is in. All other facts are whole in the columns that
-- there are. Rows from before this file have neither; `rebuild --analytics` fills them
-- in as far as the log goes back.
--
-- MATERIALIZED keeps both out of SELECT *: the sink writes them nevertheless
-- (insert_allow_materialized_columns), and who wants them names them.
ALTER TABLE db.events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS log_id LowCardinality(String) MATERIALIZED '' COMMENT 'Id of the topic: a log that was made anew begins again at offset 0';

ALTER TABLE db.events_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS original String MATERIALIZED '' COMMENT 'Of a post: the fact as the log has it, activityfeed.v1.PhotoPosted' CODEC(ZSTD(1));

ALTER TABLE db.events_local ON CLUSTER 'main' MODIFY COLUMN caption_length COMMENT 'Characters of the caption';

ALTER TABLE db.events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS log_id LowCardinality(String) MATERIALIZED '' COMMENT 'Id of the topic: a log that was made anew begins again at offset 0';

ALTER TABLE db.events ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS original String MATERIALIZED '' COMMENT 'Of a post: the fact as the log has it, activityfeed.v1.PhotoPosted';

ALTER TABLE db.events ON CLUSTER 'main' MODIFY COLUMN caption_length COMMENT 'Characters of the caption';
