//! Owns what an addition to a sliding window does to local data. It only decides and changes nothing.

use smol_str::SmolStr;

use crate::backend::local::change::Change;
use crate::backend::local::entry::{Content, Entry, MapValue};
use crate::backend::local::view::EntryView;
use crate::clock::{Deadline, Now};
use crate::error::{Error, Result};
use crate::op::{Reply, WindowAdd, WindowBuckets, window};
use crate::value::{Form, Value};

/// Decides what an addition changes under `key`, and the reply to it. What no longer counts is dropped when a bucket
/// begins; until then a change is one field.
pub(crate) fn plan_window(
    key: &str,
    add: &WindowAdd,
    view: &mut impl EntryView,
    now: &Now<'_>,
) -> Result<(Change, Reply)> {
    let fields = view.fields()?;
    let time = now.millis();
    let not_an_integer = || Error::NotAnInteger { key: key.to_owned() };
    let mut buckets = WindowBuckets::read(add.width, time, &fields).ok_or_else(not_an_integer)?;
    let bucket = window::bucket_at(add.width, add.at.unwrap_or(time));
    if !buckets.is_live(bucket) || !buckets.has_room(add) {
        return Ok((Change::Nothing, Reply::Window(Box::new(buckets.outcome(add, false)))));
    }
    let after = buckets.value_after(bucket, add.by).ok_or_else(|| Error::Overflow { key: key.to_owned() })?;
    let deadline = Deadline::from_millis(window::end_of(add.width, buckets.newest(bucket)));
    let field = (window::field_of(bucket), Value::integer(after));
    let is_whole_change = fields.is_empty() || buckets.has_expired || view.deadline()? != deadline;
    let change = if is_whole_change {
        let stays = |name: &SmolStr| window::bucket_of(name).is_none_or(|bucket| buckets.is_live(bucket));
        let kept = fields.into_iter().filter(|(name, _)| stays(name));
        let kept = kept.map(|(name, bytes)| (name, Value::new(bytes, Form::Raw)));
        let map = MapValue::new(kept.chain([field]));
        Change::Set(Entry { content: Content::Map(Box::new(map)), deadline })
    } else {
        Change::SetFields(vec![field])
    };
    buckets.set(bucket, after);
    Ok((change, Reply::Window(Box::new(buckets.outcome(add, true)))))
}
