//! Revisions of one thing under one name.

use millpond::{Bytes, Error};

use super::MINUTE;
use crate::support::backends::Context;

promises![
    a_revision_is_saved_listed_and_loaded,
    the_last_revision_is_the_one_that_was_saved_last,
    old_revisions_are_deleted_and_the_last_one_stays,
    nothing_is_saved_if_the_value_or_the_name_is_refused,
    a_text_that_is_no_id_finds_nothing,
    revisions_belong_to_their_name_and_namespace,
    a_revision_may_be_bytes_and_is_decoded_as_its_type,
];

fn a_revision_is_saved_listed_and_loaded(cx: &Context) {
    let revisions = || cx.store().revisions::<Vec<u32>>("app");
    assert_eq!(revisions().list().unwrap(), [""; 0]);
    let ids: Vec<String> = (0..20).map(|n| revisions().save(&vec![n, n + 1]).unwrap()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    for id in &ids {
        let (millis, random) = id.split_once('-').unwrap();
        assert!(millis.len() == 13 && random.len() == 10, "{id}");
    }
    assert_eq!(revisions().list().unwrap(), ids);
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(revisions().load(id).unwrap(), Some(vec![n, n + 1]));
    }
    // They are ordinary entries, which live as long as any.
    let keys = [format!("app:revision:{}", ids[0]), "app:last_revision".to_owned()];
    assert_eq!(cx.store().get::<Vec<u32>>(&keys[0]).unwrap(), Some(vec![0, 1]));
    assert_eq!(cx.store().get::<String>(&keys[1]).unwrap().as_ref(), ids.last());
    for key in keys {
        cx.assert_default_ttl(&key);
    }
}

fn the_last_revision_is_the_one_that_was_saved_last(cx: &Context) {
    let revisions = || cx.store().revisions::<u32>("app");
    assert_eq!(revisions().last().unwrap(), None);
    for n in 0..3 {
        let id = revisions().save(&n).unwrap();
        assert_eq!(revisions().last().unwrap(), Some((id, n)));
    }
    let (id, _) = revisions().last().unwrap().unwrap();
    assert!(cx.store().delete(format!("app:revision:{id}")).unwrap());
    assert_eq!(revisions().last().unwrap(), None, "somebody else has deleted it");
}

fn old_revisions_are_deleted_and_the_last_one_stays(cx: &Context) {
    let revisions = || cx.store().revisions::<u32>("app");
    assert_eq!(revisions().keep(3).unwrap(), 0);
    let ids: Vec<String> = (0..6).map(|n| revisions().save(&n).unwrap()).collect();
    assert_eq!(revisions().keep(9).unwrap(), 0);
    assert_eq!(revisions().keep(4).unwrap(), 2);
    assert_eq!(revisions().list().unwrap(), ids[2..]);
    // As if another process, whose clock is behind, had saved this one last.
    cx.store().put("app:last_revision", &ids[2]).unwrap();
    assert_eq!(revisions().keep(2).unwrap(), 2);
    assert_eq!(revisions().list().unwrap(), [ids[2].clone(), ids[5].clone()]);
    assert_eq!(revisions().keep(0).unwrap(), 1);
    assert_eq!(revisions().last().unwrap(), Some((ids[2].clone(), 2)));
    assert_eq!(revisions().clear().unwrap(), 1);
    assert_eq!(revisions().clear().unwrap(), 0);
    assert_eq!(revisions().last().unwrap(), None);
    assert_eq!(cx.store().len().unwrap(), 0);
}

fn nothing_is_saved_if_the_value_or_the_name_is_refused(cx: &Context) {
    let unwritable = || cx.store().revisions::<f64>("app");
    assert_error!(unwritable().save(&f64::NAN), Error::Encode { .. });
    assert_eq!(unwritable().last().unwrap(), None);
    for name in ["line\nbreak".to_owned(), "__millpond".to_owned(), "x".repeat(490)] {
        let revisions = || cx.store().revisions::<u32>(&name);
        assert_error!(revisions().save(&1), Error::InvalidKey { .. });
        if name.len() < 490 {
            assert_error!(revisions().last(), Error::InvalidKey { .. });
            assert_error!(revisions().load("no id"), Error::InvalidKey { .. });
        }
    }
    assert_eq!(cx.store().len().unwrap(), 0);
}

fn a_text_that_is_no_id_finds_nothing(cx: &Context) {
    let revisions = || cx.store().revisions::<u32>("app");
    let id = revisions().save(&1).unwrap();
    cx.store().put("app:revision:mine", 2).unwrap();
    for text in ["", "mine", "../app", &id[..23], &format!("{id}0"), &id.to_uppercase().replace('-', "_")] {
        assert_eq!(revisions().load(text).unwrap(), None, "{text}");
    }
    assert_eq!(revisions().list().unwrap(), [id]);
    assert_eq!(revisions().clear().unwrap(), 1);
    assert_eq!(cx.store().get::<i64>("app:revision:mine").unwrap(), Some(2), "it is not one of them");
}

fn revisions_belong_to_their_name_and_namespace(cx: &Context) {
    let save = |namespace: &str, name: &str, state: u32| {
        cx.store().namespace(namespace).revisions::<u32>(name).save(&state).unwrap()
    };
    let ids = [save("", "app", 1), save("", "app2", 2), save("n", "app", 3)];
    for (namespace, name, id, state) in
        [("", "app", &ids[0], 1), ("", "app2", &ids[1], 2), ("n", "app", &ids[2], 3)]
    {
        let revisions = cx.store().namespace(namespace).revisions::<u32>(name);
        assert_eq!(revisions.list().unwrap().join(" "), *id);
        assert_eq!(revisions.last().unwrap(), Some((id.clone(), state)));
    }
    assert_eq!(cx.store().revisions::<u32>("n:app").last().unwrap(), Some((ids[2].clone(), 3)));
    assert_eq!(cx.store().revisions::<u32>("app").clear().unwrap(), 1);
    assert_eq!(cx.store().revisions::<u32>("app2").list().unwrap(), [ids[1].clone()]);
}

fn a_revision_may_be_bytes_and_is_decoded_as_its_type(cx: &Context) {
    let bytes = Bytes::from(vec![0xff, 0, 7]);
    let id = cx.store().revisions::<Bytes>("app").save(&bytes).unwrap();
    assert_eq!(cx.store().revisions::<Bytes>("app").load(&id).unwrap(), Some(bytes));
    assert_error!(cx.store().revisions::<u32>("app").last(), Error::Decode { .. });
    let written = cx.store().revisions::<u32>("app").clone().save(&7).unwrap();
    cx.advance(MINUTE / 60);
    assert_eq!(cx.store().revisions::<u32>("app").load(&written).unwrap(), Some(7));
}
