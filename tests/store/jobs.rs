//! Jobs: taken when they are due, once at a time, and kept until they are finished.

use std::time::Duration;

use members_book::{
    service::views,
    store::{
        audit::AuditPlace,
        changes::Change,
        jobs::{Job, TakenJob},
    },
};
use protocol::{MemberId, PhotoName, Timestamp, rest::MemberPatch};

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_job_is_taken_when_it_is_due_and_again_if_it_is_not_finished,
    a_job_that_is_written_again_is_due_at_the_earlier_time_and_outlives_the_former_one,
    jobs_are_taken_in_the_order_in_which_they_are_due,
    what_is_written_anew_is_not_finished_by_who_took_it_before_it_was_cancelled,
    a_further_upload_of_the_same_picture_puts_its_check_off,
    a_change_of_a_photo_writes_its_jobs,
];

fn photo(byte: u8) -> PhotoName {
    PhotoName::from_bytes([byte; 32])
}

fn job(byte: u8) -> Job {
    Job::DeletePhoto { member: MemberId::from_bytes([1; 12]), photo: photo(byte) }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + seconds * 1000)
}

async fn take(f: &Fixture, now: i64) -> Option<TakenJob> {
    f.store.jobs.take(at(now), at(now + 60)).await.unwrap()
}

async fn waiting(f: &Fixture) -> Vec<Job> {
    f.store.jobs.waiting(10).await.unwrap().into_iter().map(|(job, _)| job).collect()
}

async fn a_job_is_taken_when_it_is_due_and_again_if_it_is_not_finished(f: &Fixture) {
    f.store.jobs.add(job(1), at(10)).await.unwrap();
    assert_eq!(take(f, 9).await, None);
    let first = take(f, 10).await.unwrap();
    assert_eq!((first.job, first.attempts), (job(1), 1));
    assert_eq!(take(f, 11).await, None, "it is being done");
    let second = take(f, 70).await.unwrap();
    assert_eq!((second.job, second.attempts), (job(1), 2));
    f.store.jobs.postpone(second, at(75)).await.unwrap();
    assert_eq!(take(f, 74).await, None);
    let third = take(f, 75).await.unwrap();
    assert_eq!(waiting(f).await, [job(1)]);
    f.store.jobs.finish(third).await.unwrap();
    assert_eq!((take(f, 1000).await, waiting(f).await), (None, vec![]));
}

async fn a_job_that_is_written_again_is_due_at_the_earlier_time_and_outlives_the_former_one(f: &Fixture) {
    for due in [30, 10, 20] {
        f.store.jobs.add(job(1), at(due)).await.unwrap();
    }
    let first = take(f, 10).await.unwrap();
    f.store.jobs.add(job(1), at(12)).await.unwrap();
    f.store.jobs.finish(first.clone()).await.unwrap();
    f.store.jobs.postpone(first, at(1000)).await.unwrap();
    let second = take(f, 12).await.unwrap();
    assert_eq!(second.job, job(1));
    f.store.jobs.finish(second).await.unwrap();
    assert_eq!(waiting(f).await, []);
}

async fn jobs_are_taken_in_the_order_in_which_they_are_due(f: &Fixture) {
    for (byte, due) in [(1, 30), (2, 10), (3, 20)] {
        f.store.jobs.add(job(byte), at(due)).await.unwrap();
    }
    assert_eq!(waiting(f).await, [job(2), job(3), job(1)]);
    for byte in [2, 3, 1] {
        assert_eq!(take(f, 40).await.unwrap().job, job(byte));
    }
    assert_eq!(take(f, 40).await, None);
}

async fn what_is_written_anew_is_not_finished_by_who_took_it_before_it_was_cancelled(f: &Fixture) {
    let member = f.member("Ana").await;
    let point_to = async |to: Option<u8>| {
        let profile_image_url = Some(to.map(|byte| photo(byte).path()));
        let patch = MemberPatch { profile_image_url, ..MemberPatch::default() };
        f.change(member, Change::Profile { edit: views::edit(patch), expected: None }).await;
    };
    point_to(Some(1)).await;
    point_to(None).await;
    let now = f.now();
    let taken = f.store.jobs.take(now, now.after(Duration::from_secs(60))).await.unwrap().unwrap();
    point_to(Some(1)).await;
    assert_eq!(waiting(f).await, [], "it is the photo again");
    point_to(None).await;
    f.store.jobs.finish(taken).await.unwrap();
    assert_eq!(waiting(f).await, [Job::DeletePhoto { member, photo: photo(1) }]);
}

async fn a_further_upload_of_the_same_picture_puts_its_check_off(f: &Fixture) {
    let check = Job::CheckUpload { member: MemberId::from_bytes([1; 12]), photo: photo(1) };
    for due in [10, 30, 20] {
        f.store.jobs.add(check, at(due)).await.unwrap();
    }
    assert_eq!(take(f, 29).await, None);
    assert_eq!(take(f, 30).await.unwrap().job, check);
}

/// In the transaction of the change.
async fn a_change_of_a_photo_writes_its_jobs(f: &Fixture) {
    let member = f.member("Ana").await;
    let delete = |byte| Job::DeletePhoto { member, photo: photo(byte) };
    let point_to = async |to: Option<u8>| {
        let profile_image_url = Some(to.map(|byte| photo(byte).path()));
        let patch = MemberPatch { profile_image_url, ..MemberPatch::default() };
        f.change(member, Change::Profile { edit: views::edit(patch), expected: None }).await;
        waiting(f).await
    };
    f.store
        .jobs
        .add(Job::CheckUpload { member, photo: photo(1) }, f.now().after(Duration::from_secs(60)))
        .await
        .unwrap();
    assert_eq!(point_to(Some(1)).await, [], "the upload is the photo now");
    assert_eq!(point_to(Some(2)).await, [delete(1)]);
    assert_eq!(point_to(Some(1)).await, [delete(2)], "the former one is the photo again");
    f.change(member, Change::Erase).await;
    let mut left = waiting(f).await;
    left.sort_unstable_by_key(Job::key);
    assert_eq!(left, [delete(1), delete(2), Job::ForgetAddresses { member, after: AuditPlace(0) }]);
}
