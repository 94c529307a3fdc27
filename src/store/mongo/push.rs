//! Not there yet.

use async_trait::async_trait;
use protocol::{ConversationId, DeviceId, MemberId, Timestamp};

use super::{Mongo, unavailable};
use crate::{
    position::Position,
    store::{
        PushStore, StoreError,
        push::{
            AddressHash, DeviceMark, DeviceRecord, NewTask, Progress, PushChoice, Settled, Stretch, TakenTask,
            Unlooked, WaitingTasks,
        },
        turns::Caller,
    },
};

#[async_trait]
impl PushStore for Mongo {
    async fn register(&self, _: DeviceRecord) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn unregister(&self, _: MemberId, _: &DeviceId) -> Result<bool, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn address_gone(&self, _: AddressHash, _: Timestamp) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn devices(&self, _: Caller, _: Vec<MemberId>) -> Result<Vec<DeviceRecord>, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn choice(&self, _: Caller, _: MemberId) -> Result<PushChoice, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn choose(&self, _: MemberId, _: PushChoice) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn acknowledge(&self, _: Vec<DeviceMark>) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn progress(&self, _: Vec<(MemberId, ConversationId)>) -> Result<Vec<Progress>, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn unread(&self, _: MemberId) -> Result<u32, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn add(&self, _: Vec<NewTask>, _: Option<Position>) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn unlooked(&self, _: Timestamp, _: Timestamp) -> Result<Option<Unlooked>, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn looked(&self, _: Unlooked) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn stored(&self, _: Position, _: Position, _: usize) -> Result<(Vec<Stretch>, Position), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn take(&self, _: Timestamp, _: Timestamp, _: usize) -> Result<Vec<TakenTask>, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn settle(&self, _: Vec<(TakenTask, Settled)>) -> Result<(), StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn waiting(&self) -> Result<WaitingTasks, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
    async fn expire(&self, _: Timestamp) -> Result<u64, StoreError> {
        Err(unavailable("pushes are not stored yet"))
    }
}
