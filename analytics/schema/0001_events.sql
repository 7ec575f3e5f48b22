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
CREATE TABLE IF NOT EXISTS {{.Local "events"}} {{.OnCluster}}
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
ENGINE = {{.Engine "ReplacingMergeTree"}}
PARTITION BY toYYYYMM(event_time)
PRIMARY KEY (event_type, toDate(event_time), author_id)
ORDER BY (event_type, toDate(event_time), author_id, event_id)
SETTINGS {{.DedupWindow}};

{{.Distributed "events" "cityHash64(author_id)"}}
