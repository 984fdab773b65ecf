//! Every operation of the store, with the data on the server before it and after it.

use std::time::Duration;

use millpond::{Leased, LockGuard, Result, StateStore, Transaction, WriteBatch};

use super::OnLostReply::{Never, Proven, Reported, Same};
use super::OnOutage::{Estimated, NeedsServer, Refused, Served, UnlessInDoubt};
use super::Run::{Locks, Plain, Takes};
use super::{Call, OnLostReply, OnOutage};
use crate::support::backends::HOUR;

const TWO_HOURS: Duration = Duration::from_secs(7200);

/// A call that returns a value and is not about locks.
const fn call(
    name: &'static str,
    before: &'static [&'static str],
    states: &'static [&'static str],
    answer: &'static str,
    (again, away): (OnLostReply, OnOutage),
    run: fn(&StateStore) -> Result<String>,
) -> Call {
    Call { name, before, states, answer, again, away, run: Plain(run) }
}

/// The result, as text.
fn as_text(answer: impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

pub(super) fn all() -> Vec<Call> {
    [values(), atomic(), counters(), batches(), maps(), queues(), leases(), locks(), listings()].concat()
}

fn values() -> Vec<Call> {
    vec![
        call("get", &["SET t:a 7"], &["a=7"], "Some(7)", (Same, Served), |store| {
            store.get::<i64>("a").map(as_text)
        }),
        call("contains", &["SET t:a 7"], &["a=7"], "true", (Same, Served), |store| {
            store.contains("a").map(as_text)
        }),
        call("ttl", &["SET t:a 7"], &["a=7"], "Some(Never)", (Same, Served), |store| {
            store.ttl("a").map(as_text)
        }),
        call("put", &["SET t:a 1"], &["a=1", "a=2"], "()", (Proven, Served), |store| {
            store.put("a", 2).map(as_text)
        }),
        call("put_with_ttl", &["SET t:a 1"], &["a=1", "a=2 <=1h"], "()", (Proven, Served), |store| {
            store.put_with_ttl("a", 2, HOUR).map(as_text)
        }),
        call(
            "update",
            &["SET t:a 1 EX 3600"],
            &["a=1 <=1h", "a=2 <=1h"],
            "true",
            (Proven, UnlessInDoubt("false")),
            |store| store.update("a", 2).map(as_text),
        ),
        call("delete", &["SET t:a 1"], &["a=1", ""], "true", (Never, Estimated("false")), |store| {
            store.delete("a").map(as_text)
        }),
        call(
            "expire",
            &["SET t:a 1"],
            &["a=1", "a=1 <=1h"],
            "true",
            (Never, UnlessInDoubt("false")),
            |store| store.expire("a", HOUR).map(as_text),
        ),
        call(
            "persist",
            &["SET t:a 1 EX 3600"],
            &["a=1 <=1h", "a=1"],
            "true",
            (Never, UnlessInDoubt("false")),
            |store| store.persist("a").map(as_text),
        ),
        call(
            "get_and_touch",
            &["SET t:a 1"],
            &["a=1", "a=1 <=1h"],
            "Some(1)",
            (Never, NeedsServer),
            |store| store.get_and_touch::<i64>("a", HOUR).map(as_text),
        ),
    ]
}

fn atomic() -> Vec<Call> {
    vec![
        call("set_if_not_exists", &[], &["", "a=1"], "true", (Never, Refused), |store| {
            store.set_if_not_exists("a", 1, None).map(as_text)
        }),
        call("compare_and_set", &["SET t:a 1"], &["a=1", "a=2"], "true", (Never, Refused), |store| {
            store.compare_and_set("a", Some(&1), &2).map(as_text)
        }),
        call("get_and_delete", &["SET t:a 1"], &["a=1", ""], "Some(1)", (Never, Refused), |store| {
            store.get_and_delete::<i64>("a").map(as_text)
        }),
        call("get_and_put", &["SET t:a 1"], &["a=1", "a=2"], "Some(1)", (Never, Refused), |store| {
            store.get_and_put::<i64>("a", 2).map(as_text)
        }),
        call("modify", &["SET t:a 1"], &["a=1", "a=2"], "Some(2)", (Never, Refused), |store| {
            store.modify("a", |n: Option<i64>| n.map(|n| n + 1)).map(as_text)
        }),
        call(
            "transaction",
            &["SET t:a 1", "SET t:b 2"],
            &["a=1 b=2", "a=2 b=1"],
            "3",
            (Never, Refused),
            |store| store.transaction(swap).map(as_text),
        ),
    ]
}

/// Two reads and two writes.
fn swap(transaction: &mut Transaction<'_>) -> Result<i64> {
    let (a, b): (Option<i64>, Option<i64>) = (transaction.get("a")?, transaction.get("b")?);
    transaction.put("a", b)?;
    transaction.put("b", a)?;
    Ok(a.unwrap_or(0) + b.unwrap_or(0))
}

fn counters() -> Vec<Call> {
    vec![
        call("incr", &["SET t:a 5"], &["a=5", "a=6"], "6", (Never, UnlessInDoubt("")), |store| {
            store.incr("a", 1).map(as_text)
        }),
        call("incr_with_ttl", &[], &["", "a=1 <=1h"], "1", (Never, UnlessInDoubt("")), |store| {
            store.incr_with_ttl("a", 1, HOUR).map(as_text)
        }),
    ]
}

fn batches() -> Vec<Call> {
    const SEVERAL: &[&str] = &["SET t:a 1", "SET t:b 2", "SET t:c 3"];
    vec![
        call(
            "batch_get",
            SEVERAL,
            &["a=1 b=2 c=3"],
            "[Some(1), None, Some(3)]",
            (Same, NeedsServer),
            |store| store.batch_get::<i64>(["a", "none", "c"]).map(as_text),
        ),
        call(
            "batch_put",
            SEVERAL,
            &["a=1 b=2 c=3", "a=4 b=2 c=3", "a=4 b=5 c=3", "a=4 b=5 c=6"],
            "()",
            (Proven, Served),
            |store| store.batch_put([("a", 4), ("b", 5), ("c", 6)]).map(as_text),
        ),
        call(
            "batch_set_if_not_exists",
            &["SET t:b 2"],
            &["b=2", "a=4 b=2", "a=4 b=2 c=6"],
            "[true, false, true]",
            (Never, Refused),
            |store| store.batch_set_if_not_exists([("a", 4), ("b", 5), ("c", 6)], None).map(as_text),
        ),
        call(
            "batch_delete",
            SEVERAL,
            &["a=1 b=2 c=3", "b=2 c=3", "c=3", ""],
            "3",
            (Never, Estimated("0|1|2")),
            |store| store.batch_delete(["a", "b", "c"]).map(as_text),
        ),
        call(
            "batch_incr",
            SEVERAL,
            &["a=1 b=2 c=3", "a=2 b=2 c=3", "a=2 b=3 c=3", "a=2 b=3 c=4"],
            "[2, 3, 4]",
            (Never, UnlessInDoubt("")),
            |store| store.batch_incr([("a", 1), ("b", 1), ("c", 1)]).map(as_text),
        ),
        call("write", SEVERAL, &["a=1 b=2 c=3", "a=4 c=5 <=1h"], "()", (Proven, Served), |store| {
            let mut batch = WriteBatch::new();
            batch.put("a", 4)?.delete("b")?.put_with_ttl("c", 5, HOUR)?;
            store.write(&batch).map(as_text)
        }),
    ]
}

fn maps() -> Vec<Call> {
    const MAP: &[&str] = &["HSET t:m x 1 y 2"];
    const NOW: &[&str] = &["m={x:1,y:2}"];
    vec![
        call(
            "map_put",
            MAP,
            &["m={x:1,y:2}", "m={x:1,y:2,z:3}"],
            "true",
            (Never, UnlessInDoubt("")),
            |store| store.map_put("m", "z", 3).map(as_text),
        ),
        call(
            "map_put_many",
            MAP,
            &["m={x:1,y:2}", "m={x:8,y:2,z:9}"],
            "1",
            (Never, UnlessInDoubt("2")),
            |store| store.map_put_many("m", [("x", 8), ("z", 9)]).map(as_text),
        ),
        call("map_get", MAP, NOW, "Some(1)", (Same, NeedsServer), |store| {
            store.map_get::<i64>("m", "x").map(as_text)
        }),
        call("map_get_many", MAP, NOW, "[Some(1), None]", (Same, NeedsServer), |store| {
            store.map_get_many::<i64>("m", ["x", "none"]).map(as_text)
        }),
        call("map_contains", MAP, NOW, "true", (Same, NeedsServer), |store| {
            store.map_contains("m", "x").map(as_text)
        }),
        call(
            "map_delete",
            MAP,
            &["m={x:1,y:2}", "m={y:2}"],
            "true",
            (Never, UnlessInDoubt("false")),
            |store| store.map_delete("m", "x").map(as_text),
        ),
        call("map_incr", MAP, &["m={x:1,y:2}", "m={x:4,y:2}"], "4", (Never, UnlessInDoubt("")), |store| {
            store.map_incr("m", "x", 3).map(as_text)
        }),
        call("map_entries", MAP, NOW, "{\"x\": 1, \"y\": 2}", (Same, NeedsServer), |store| {
            store.map_entries::<i64>("m").map(as_text)
        }),
        call("map_keys", MAP, NOW, "[\"x\", \"y\"]", (Same, NeedsServer), |store| {
            store.map_keys("m").map(as_text)
        }),
        call("map_len", MAP, NOW, "2", (Same, NeedsServer), |store| store.map_len("m").map(as_text)),
    ]
}

fn queues() -> Vec<Call> {
    const QUEUE: &[&str] = &["RPUSH t:q 1 2 3"];
    const NOW: &[&str] = &["q=[1,2,3]"];
    vec![
        call("push_back", QUEUE, &["q=[1,2,3]", "q=[1,2,3,4]"], "4", (Never, UnlessInDoubt("")), |store| {
            store.push_back("q", 4).map(as_text)
        }),
        call("push_front", QUEUE, &["q=[1,2,3]", "q=[0,1,2,3]"], "4", (Never, UnlessInDoubt("")), |store| {
            store.push_front("q", 0).map(as_text)
        }),
        call(
            "push_back_many",
            QUEUE,
            &["q=[1,2,3]", "q=[1,2,3,4,5]"],
            "5",
            (Never, UnlessInDoubt("")),
            |store| store.push_back_many("q", [4, 5]).map(as_text),
        ),
        call("pop_front", QUEUE, &["q=[1,2,3]", "q=[2,3]"], "Some(1)", (Never, Refused), |store| {
            store.pop_front::<i64>("q").map(as_text)
        }),
        call("pop_back", QUEUE, &["q=[1,2,3]", "q=[1,2]"], "Some(3)", (Never, Refused), |store| {
            store.pop_back::<i64>("q").map(as_text)
        }),
        call("queue_len", QUEUE, NOW, "3", (Same, NeedsServer), |store| store.queue_len("q").map(as_text)),
        call("queue_range", QUEUE, NOW, "[2, 3]", (Same, NeedsServer), |store| {
            store.queue_range::<i64>("q", 1..).map(as_text)
        }),
        call("queue_trim", QUEUE, &["q=[1,2,3]", "q=[3]"], "2", (Never, UnlessInDoubt("0")), |store| {
            store.queue_trim("q", 1).map(as_text)
        }),
    ]
}

fn leases() -> Vec<Call> {
    const QUEUE: &[&str] = &["RPUSH t:q 1 2"];
    let end = |name, states, again, run: fn(&StateStore, &Leased<i64>) -> Result<bool>| Call {
        name,
        before: QUEUE,
        states,
        answer: "true",
        again,
        away: Refused,
        run: Takes(run),
    };
    vec![
        call("take", QUEUE, &["q=[1,2]", "q=[2] q:leased=1"], "Some(1)", (Never, Refused), |store| {
            store.lease::<i64>("q", HOUR).map(|taken| as_text(taken.map(Leased::into_inner)))
        }),
        call("push_after", QUEUE, &["q=[1,2]", "q=[1,2] q:delayed=1"], "()", (Never, Refused), |store| {
            store.push_after("q", 3, HOUR).map(as_text)
        }),
        call("dead_letters", QUEUE, &["q=[1,2]", "dead=[2,1]"], "None", (Never, Refused), |store| {
            let queue = store.queue::<i64>("q").dead_letter_after(0, "dead");
            queue.lease(HOUR).map(|taken| as_text(taken.map(Leased::into_inner)))
        }),
        end("done", &["q=[2] q:leased=1", "q=[2]"], Reported, |_, taken| taken.ack()),
        end("back", &["q=[2] q:leased=1", "q=[1,2]"], Reported, |_, taken| taken.nack()),
        end("ack", &["q=[2] q:leased=1", "q=[2] result=7"], Never, |store, taken| {
            store.transaction(|tx| {
                tx.put("result", 7)?;
                tx.ack(taken)
            })
        }),
    ]
}

fn locks() -> Vec<Call> {
    let held =
        |name, again, states, answer, run: fn(&StateStore, &mut Option<LockGuard>) -> Result<()>| Call {
            name,
            before: &[],
            states,
            answer,
            again,
            away: Refused,
            run: Locks { before: ["extend", "release"].contains(&name), run },
        };
    vec![
        held("lock", Never, &["", "l:lock <=1h"], "true", |store, guard| {
            *guard = store.try_lock("l", HOUR)?;
            Ok(())
        }),
        held("permit", Never, &["", "l:permit:0:lock <=1h"], "true", |store, guard| {
            *guard = store.permits("l", 2, HOUR).try_acquire()?;
            Ok(())
        }),
        held("extend", Same, &["l:lock <=1h", "l:lock >1h"], "true", |_, guard| {
            guard.as_ref().map_or(Ok(()), |guard| guard.extend(TWO_HOURS))
        }),
        held("release", Reported, &["l:lock <=1h", ""], "false", |_, guard| {
            guard.take().map_or(Ok(()), LockGuard::release)
        }),
    ]
}

fn listings() -> Vec<Call> {
    const SOME: &[&str] = &["SET t:a 1", "SET t:b 2", "SET t:c 3"];
    const NOW: &[&str] = &["a=1 b=2 c=3"];
    vec![
        call("keys", SOME, NOW, "[\"b\"]", (Same, Served), |store| store.keys("b").map(as_text)),
        call("count", SOME, NOW, "1", (Same, Served), |store| store.count("b").map(as_text)),
        call(
            "delete_prefix",
            &["SET t:b1 1", "SET t:b2 2"],
            &["b1=1 b2=2", "b1=1|b2=2", ""],
            "2",
            (Never, Refused),
            |store| store.delete_prefix("b").map(as_text),
        ),
    ]
}
