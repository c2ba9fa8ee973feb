//! Queues that stay in the machine room of their consumer.

use std::collections::{BTreeMap, BTreeSet};

use super::AllocateStrategy;
use crate::body::MessageQueue;

/// Only the queues of brokers that are called `room@…` with one of these rooms, in blocks; what is left over goes to the
/// first members, one each.
#[derive(Debug, Clone, Default)]
pub struct AllocateByMachineRoom {
    rooms: BTreeSet<String>,
}

impl AllocateByMachineRoom {
    pub fn new(rooms: impl IntoIterator<Item = impl Into<String>>) -> AllocateByMachineRoom {
        AllocateByMachineRoom {
            rooms: rooms.into_iter().map(Into::into).collect(),
        }
    }
}

impl AllocateStrategy for AllocateByMachineRoom {
    fn name(&self) -> &str {
        "MACHINE_ROOM"
    }

    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue> {
        let in_rooms: Vec<_> = queues
            .iter()
            .filter(|queue| room_of_name(&queue.broker_name).is_some_and(|room| self.rooms.contains(room)))
            .collect();
        let share = in_rooms.len() / members.len();
        let block = in_rooms.iter().skip(share * index).take(share);
        let left_over = in_rooms.get(share * members.len() + index);
        block.chain(left_over).map(|queue| (*queue).clone()).collect()
    }
}

/// `room` of `room@broker`. Names with another number of parts have none; empty parts at the end do not count.
fn room_of_name(broker_name: &str) -> Option<&str> {
    let (room, broker) = broker_name.trim_end_matches('@').split_once('@')?;
    (!broker.contains('@')).then_some(room)
}

/// Says where brokers and clients are. One that is nowhere counts as a room of its own, called "".
pub trait MachineRoomResolver: Send + Sync + 'static {
    fn broker_deploy_in(&self, queue: &MessageQueue) -> String;
    fn consumer_deploy_in(&self, client_id: &str) -> String;
}

/// Members take the queues of their own room, shared out by another strategy. Rooms without a member are shared by all.
pub struct AllocateMachineRoomNearby {
    name: String,
    inner: Box<dyn AllocateStrategy>,
    resolver: Box<dyn MachineRoomResolver>,
}

impl AllocateMachineRoomNearby {
    pub fn new(inner: impl AllocateStrategy, resolver: impl MachineRoomResolver) -> AllocateMachineRoomNearby {
        AllocateMachineRoomNearby {
            name: format!("MACHINE_ROOM_NEARBY-{}", inner.name()),
            inner: Box::new(inner),
            resolver: Box::new(resolver),
        }
    }
}

impl AllocateStrategy for AllocateMachineRoomNearby {
    fn name(&self) -> &str {
        &self.name
    }

    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue> {
        let rooms: Vec<_> = members
            .iter()
            .map(|member| self.resolver.consumer_deploy_in(member))
            .collect();
        let mut queues_by_room = BTreeMap::<String, Vec<MessageQueue>>::new();
        for queue in queues {
            let room = self.resolver.broker_deploy_in(queue);
            queues_by_room.entry(room).or_default().push(queue.clone());
        }
        let own_room = &rooms[index];
        let mut share = Vec::new();
        if let Some(near) = queues_by_room.remove(own_room) {
            let neighbours: Vec<_> = (0..members.len())
                .filter(|member| rooms[*member] == *own_room)
                .collect();
            let place = neighbours.iter().take_while(|member| **member != index).count();
            let neighbours: Vec<_> = neighbours.iter().map(|member| members[*member].clone()).collect();
            share.extend(self.inner.allocate(&near, &neighbours, place));
        }
        for (room, abandoned) in &queues_by_room {
            if !rooms.contains(room) {
                share.extend(self.inner.allocate(abandoned, members, index));
            }
        }
        share
    }
}
