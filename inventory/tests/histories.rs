//! Random histories of one stock, beside an oracle that keeps everything in plain maps and forgets by scanning them.

mod group;

use std::collections::BTreeMap;

use group::{Answer, Group, command, order, reservation, returned, transfer, units};
use proptest::prelude::*;
use souk_inventory::{
    Centre, CommandId, Compartment, ENDED_MEMORY_MS, HOLD_MAX_MS, HoldStatus, ORDER_MEMORY_MS,
    ReservationId, ReturnId, StockAnswer, StockCommand, TransferId,
};

/// What the oracle knows of one reservation.
#[derive(Debug, Clone, Copy)]
enum Slip {
    Barred {
        forget: u64,
    },
    Made {
        quantity: i64,
        expires: u64,
        status: HoldStatus,
        forget: u64,
    },
}

#[derive(Debug, Default)]
struct Oracle {
    /// By compartment, in the order of [`Compartment::ALL`].
    counts: [i64; 5],
    now: u64,
    slips: BTreeMap<ReservationId, Slip>,
    commands: BTreeMap<CommandId, StockCommand>,
    /// Return → (the command, the units, what an inspection found).
    returns: BTreeMap<ReturnId, (StockCommand, i64, Option<u32>)>,
    /// Transfer → (the command, the units if they left here, whether they arrived).
    transfers: BTreeMap<TransferId, (StockCommand, Option<i64>, bool)>,
}

const AVAILABLE: usize = 0;
const RESERVED: usize = 1;
const ALLOCATED: usize = 2;
const DAMAGED: usize = 3;
const IN_TRANSIT: usize = 4;

type Verdict = Result<(), &'static str>;

impl Oracle {
    /// What every write does before its commands. `stored` is the time of the last write.
    fn tick(&mut self, stored: u64, clock: u64) {
        self.now = stored.max(clock);
        let now = self.now;
        self.slips.retain(|_, slip| match slip {
            Slip::Barred { forget } => *forget > now,
            Slip::Made { forget, .. } => *forget > now,
        });
        let counts = &mut self.counts;
        for slip in self.slips.values_mut() {
            if let Slip::Made {
                quantity,
                expires,
                status,
                forget,
            } = slip
                && *status == HoldStatus::Held
                && *expires <= now
            {
                counts[RESERVED] -= *quantity;
                counts[AVAILABLE] += *quantity;
                *status = HoldStatus::Expired;
                *forget = now + ENDED_MEMORY_MS;
            }
        }
    }

    fn shift(&mut self, from: Option<usize>, to: Option<usize>, quantity: i64) -> Verdict {
        if let Some(from) = from {
            if self.counts[from] < quantity {
                return Err("stock_insufficient");
            }
            self.counts[from] -= quantity;
        }
        if let Some(to) = to {
            self.counts[to] += quantity;
        }
        Ok(())
    }

    fn run(&mut self, command: &StockCommand) -> Verdict {
        use StockCommand as C;
        match command {
            C::Receive {
                command_id,
                quantity,
            } => self.once(
                *command_id,
                command,
                None,
                Some(AVAILABLE),
                quantity.get().into(),
            ),
            C::Damage {
                command_id,
                quantity,
            } => self.once(
                *command_id,
                command,
                Some(AVAILABLE),
                Some(DAMAGED),
                quantity.get().into(),
            ),
            C::Discard {
                command_id,
                quantity,
            } => self.once(
                *command_id,
                command,
                Some(DAMAGED),
                None,
                quantity.get().into(),
            ),
            C::Adjust {
                command_id,
                difference,
            } if *difference < 0 => {
                self.once(*command_id, command, Some(AVAILABLE), None, -difference)
            }
            C::Adjust {
                command_id,
                difference,
            } => self.once(*command_id, command, None, Some(AVAILABLE), *difference),
            C::Reserve {
                reservation_id,
                quantity,
                expires_unix_ms,
            } => self.reserve(*reservation_id, quantity.get().into(), *expires_unix_ms),
            C::Confirm {
                reservation_id,
                order_id,
            } => self.turn(
                *reservation_id,
                HoldStatus::Allocated {
                    order_id: *order_id,
                },
            ),
            C::Ship {
                reservation_id,
                order_id,
            } => self.turn(
                *reservation_id,
                HoldStatus::Shipped {
                    order_id: *order_id,
                },
            ),
            C::Release { reservation_id } => self.turn(*reservation_id, HoldStatus::Released),
            C::Cancel {
                reservation_id,
                order_id,
            } => self.turn(
                *reservation_id,
                HoldStatus::Cancelled {
                    order_id: *order_id,
                },
            ),
            C::Return {
                return_id,
                quantity,
                ..
            } => match self.returns.get(return_id) {
                Some((known, ..)) => same(known, command),
                None => {
                    let quantity = quantity.get().into();
                    self.returns
                        .insert(*return_id, (command.clone(), quantity, None));
                    self.shift(None, Some(DAMAGED), quantity)
                }
            },
            C::Inspect {
                return_id,
                sellable,
            } => match self.returns.get(return_id).cloned() {
                None => Err("nothing_to_complete"),
                Some((_, _, Some(found))) if found == *sellable => Ok(()),
                Some((_, _, Some(_))) => Err("id_reused"),
                Some((_, quantity, None)) if i64::from(*sellable) > quantity => {
                    Err("inspected_too_many")
                }
                Some((known, quantity, None)) => {
                    self.shift(Some(DAMAGED), Some(AVAILABLE), (*sellable).into())?;
                    self.returns
                        .insert(*return_id, (known, quantity, Some(*sellable)));
                    Ok(())
                }
            },
            C::TransferOut {
                transfer_id,
                quantity,
                ..
            } => {
                let quantity = i64::from(quantity.get());
                self.transfer(
                    *transfer_id,
                    command,
                    (Some(AVAILABLE), IN_TRANSIT),
                    quantity,
                    Some(quantity),
                )
            }
            C::TransferIn {
                transfer_id,
                quantity,
                ..
            } => self.transfer(
                *transfer_id,
                command,
                (None, AVAILABLE),
                quantity.get().into(),
                None,
            ),
            C::TransferArrived { transfer_id } => match self.transfers.get(transfer_id).cloned() {
                None | Some((_, None, _)) => Err("nothing_to_complete"),
                Some((_, _, true)) => Ok(()),
                Some((known, Some(quantity), false)) => {
                    self.transfers
                        .insert(*transfer_id, (known, Some(quantity), true));
                    self.shift(Some(IN_TRANSIT), None, quantity)
                }
            },
            C::ClearOutbox { .. } | C::Sweep => Ok(()),
            C::Split { .. } | C::PassOn { .. } => unreachable!("see tests/split.rs for these"),
        }
    }

    fn once(
        &mut self,
        id: CommandId,
        command: &StockCommand,
        from: Option<usize>,
        to: Option<usize>,
        quantity: i64,
    ) -> Verdict {
        if let Some(known) = self.commands.get(&id) {
            return same(known, command);
        }
        self.shift(from, to, quantity)?;
        self.commands.insert(id, command.clone());
        Ok(())
    }

    fn transfer(
        &mut self,
        id: TransferId,
        command: &StockCommand,
        (from, to): (Option<usize>, usize),
        quantity: i64,
        sent: Option<i64>,
    ) -> Verdict {
        if let Some((known, ..)) = self.transfers.get(&id) {
            return same(known, command);
        }
        self.shift(from, Some(to), quantity)?;
        self.transfers.insert(id, (command.clone(), sent, false));
        Ok(())
    }

    fn reserve(&mut self, id: ReservationId, quantity: i64, expires: u64) -> Verdict {
        match self.slips.get(&id) {
            Some(Slip::Barred { .. }) => return Err("reservation_barred"),
            Some(Slip::Made {
                quantity: known,
                expires: until,
                ..
            }) if (*known, *until) != (quantity, expires) => {
                return Err("id_reused");
            }
            Some(Slip::Made { status, .. }) => {
                return match status {
                    HoldStatus::Expired => Err("reservation_expired"),
                    HoldStatus::Released | HoldStatus::Cancelled { .. } => Err("reservation_ended"),
                    _ => Ok(()),
                };
            }
            None => {}
        }
        if expires <= self.now {
            return Err("hold_expiry_passed");
        }
        if expires > self.now + HOLD_MAX_MS {
            return Err("hold_expiry_too_far");
        }
        self.shift(Some(AVAILABLE), Some(RESERVED), quantity)?;
        let slip = Slip::Made {
            quantity,
            expires,
            status: HoldStatus::Held,
            forget: u64::MAX,
        };
        self.slips.insert(id, slip);
        Ok(())
    }

    /// Brings a reservation to another status, by a table of (status, wish).
    fn turn(&mut self, id: ReservationId, wish: HoldStatus) -> Verdict {
        use HoldStatus as S;
        let gives_up = matches!(wish, S::Released | S::Cancelled { .. });
        let (quantity, expires, status) = match self.slips.get(&id) {
            Some(Slip::Made {
                quantity,
                expires,
                status,
                ..
            }) => (*quantity, *expires, *status),
            Some(Slip::Barred { .. }) if gives_up => return Ok(()),
            Some(Slip::Barred { .. }) => return Err("reservation_barred"),
            None if gives_up => {
                self.slips.insert(
                    id,
                    Slip::Barred {
                        forget: self.now + HOLD_MAX_MS,
                    },
                );
                return Ok(());
            }
            None => return Err("reservation_missing"),
        };
        let owner = |status| match status {
            S::Allocated { order_id } | S::Shipped { order_id } | S::Cancelled { order_id } => {
                Some(order_id)
            }
            S::Held | S::Released | S::Expired => None,
        };
        let mine = owner(status) == owner(wish);
        let (from, to) = match (status, wish) {
            (S::Held, S::Allocated { .. }) => (RESERVED, Some(ALLOCATED)),
            (S::Held, S::Released | S::Cancelled { .. }) => (RESERVED, Some(AVAILABLE)),
            (S::Held, _) => return Err("reservation_not_confirmed"),
            (S::Allocated { .. }, _) if !mine => return Err("reservation_allocated"),
            (S::Allocated { .. }, S::Allocated { .. }) => return Ok(()),
            (S::Allocated { .. }, S::Cancelled { .. }) => (ALLOCATED, Some(AVAILABLE)),
            (S::Allocated { .. }, _) => (ALLOCATED, None),
            (S::Shipped { .. }, S::Released | S::Cancelled { .. }) => {
                return Err("reservation_ended");
            }
            (S::Shipped { .. }, _) => {
                return if mine {
                    Ok(())
                } else {
                    Err("reservation_allocated")
                };
            }
            (S::Cancelled { .. }, S::Cancelled { .. }) => {
                return if mine {
                    Ok(())
                } else {
                    Err("reservation_allocated")
                };
            }
            (S::Released | S::Expired | S::Cancelled { .. }, _) if gives_up => return Ok(()),
            (S::Expired, _) => return Err("reservation_expired"),
            (S::Released | S::Cancelled { .. }, _) => return Err("reservation_ended"),
        };
        self.shift(Some(from), to, quantity)?;
        let forget = match wish {
            S::Released => expires.max(self.now + ENDED_MEMORY_MS),
            S::Shipped { .. } | S::Cancelled { .. } => expires.max(self.now + ORDER_MEMORY_MS),
            _ => u64::MAX,
        };
        self.slips.insert(
            id,
            Slip::Made {
                quantity,
                expires,
                status: wish,
                forget,
            },
        );
        Ok(())
    }
}

fn same(known: &StockCommand, command: &StockCommand) -> Verdict {
    if known == command {
        Ok(())
    } else {
        Err("id_reused")
    }
}

/// A command whose expiry is still relative: the harness makes it absolute, or repeats the one sent before.
#[derive(Debug, Clone)]
enum Wish {
    Plain(StockCommand),
    Reserve {
        id: u8,
        quantity: u32,
        hold_ms: u64,
        again: bool,
    },
}

fn wish() -> impl Strategy<Value = Wish> {
    use StockCommand as C;
    let (id, few) = (0..5_u8, 1..5_u32);
    let hold_ms = prop_oneof![
        Just(1),
        Just(1_000),
        Just(600_000),
        Just(HOLD_MAX_MS),
        Just(HOLD_MAX_MS + 1)
    ];
    let pair = (id.clone(), 0..2_u8);
    let amount = (0..3_u8, few.clone());
    let centre =
        |far: bool| Centre::new(if far { "far" } else { "near" }).expect("a short lower-case name");
    let plain = prop_oneof![
        3 => (0..8_u8, 1..9_u32)
            .prop_map(|(id, count)| C::Receive { command_id: command(id), quantity: units(count) }),
        4 => pair.clone().prop_map(|(id, by)| C::Confirm { reservation_id: reservation(id), order_id: order(by) }),
        2 => pair.clone().prop_map(|(id, by)| C::Ship { reservation_id: reservation(id), order_id: order(by) }),
        2 => id.clone().prop_map(|id| C::Release { reservation_id: reservation(id) }),
        2 => pair.prop_map(|(id, by)| C::Cancel { reservation_id: reservation(id), order_id: order(by) }),
        1 => amount.clone().prop_map(|(id, count)| C::Return {
            return_id: returned(id), order_id: order(0), quantity: units(count),
        }),
        1 => (0..3_u8, 0..5_u32).prop_map(|(id, sellable)| C::Inspect { return_id: returned(id), sellable }),
        1 => amount.clone().prop_map(|(id, count)| C::Damage { command_id: command(20 + id), quantity: units(count) }),
        1 => amount.clone()
            .prop_map(|(id, count)| C::Discard { command_id: command(40 + id), quantity: units(count) }),
        1 => (0..3_u8, -4..5_i64)
            .prop_map(|(id, difference)| C::Adjust { command_id: command(60 + id), difference }),
        1 => (amount.clone(), any::<bool>()).prop_map(move |((id, count), far)| C::TransferOut {
            transfer_id: transfer(id), to: centre(far), quantity: units(count),
        }),
        1 => amount.prop_map(move |(id, count)| C::TransferIn {
            transfer_id: transfer(10 + id), from: centre(true), quantity: units(count),
        }),
        1 => prop_oneof![0..3_u8, 10..13_u8].prop_map(|id| C::TransferArrived { transfer_id: transfer(id) }),
        1 => Just(C::Sweep),
        1 => (0_u64..6).prop_map(|through| C::ClearOutbox { through }),
    ];
    prop_oneof![
        3 => plain.prop_map(Wish::Plain),
        1 => (id, few, hold_ms, any::<bool>())
            .prop_map(|(id, quantity, hold_ms, again)| Wish::Reserve { id, quantity, hold_ms, again }),
    ]
}

/// Batches, each some milliseconds after the one before; a clock may also stand still or run back.
fn history() -> impl Strategy<Value = Vec<(i64, Vec<Wish>)>> {
    let pause = prop_oneof![
        4 => Just(0_i64),
        2 => Just(1),
        2 => Just(999),
        2 => Just(1_000),
        1 => Just(-5_000),
        1 => Just(ENDED_MEMORY_MS as i64),
        1 => Just(HOLD_MAX_MS as i64),
        1 => Just(ORDER_MEMORY_MS as i64),
    ];
    prop::collection::vec((pause, prop::collection::vec(wish(), 1..6)), 1..40)
}

/// Turns wishes into commands as clients send them.
#[derive(Default)]
struct Clients {
    clock: i64,
    sent: BTreeMap<u8, StockCommand>,
}

impl Clients {
    fn batch(&mut self, pause: i64, wishes: &[Wish]) -> (u64, Vec<StockCommand>) {
        self.clock = (self.clock + pause).max(0);
        let clock = self.clock as u64;
        (
            clock,
            wishes
                .iter()
                .map(|wish| self.command(clock, wish))
                .collect(),
        )
    }

    fn command(&mut self, clock: u64, wish: &Wish) -> StockCommand {
        match wish {
            Wish::Plain(command) => command.clone(),
            Wish::Reserve {
                id,
                quantity,
                hold_ms,
                again,
            } => {
                if let (true, Some(known)) = (again, self.sent.get(id)) {
                    return known.clone();
                }
                let command = StockCommand::Reserve {
                    reservation_id: reservation(*id),
                    quantity: units(*quantity),
                    expires_unix_ms: clock + hold_ms,
                };
                self.sent.insert(*id, command.clone());
                command
            }
        }
    }
}

fn verdict(answer: &Answer) -> Verdict {
    answer
        .as_ref()
        .map(|_| ())
        .map_err(|refusal| refusal.code())
}

/// Leaves out what depends on how commands were batched.
fn unbatched(answers: Vec<Answer>) -> Vec<Answer> {
    let strip = |answer| match answer {
        StockAnswer::Recorded { .. } => StockAnswer::Recorded { page: 0 },
        StockAnswer::Cleared { .. } => StockAnswer::Cleared { first: 0 },
        StockAnswer::Swept { more, .. } => StockAnswer::Swept {
            released_count: 0,
            more,
        },
        other => other,
    };
    answers
        .into_iter()
        .map(|answer| answer.map(strip))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_answer_and_every_count_is_the_oracles(history in history()) {
        let (mut group, mut oracle, mut clients) = (Group::default(), Oracle::default(), Clients::default());
        for (pause, wishes) in &history {
            let (clock, commands) = clients.batch(*pause, wishes);
            oracle.tick(group.summary().time_unix_ms, clock);
            let answers = group.batch(&commands, clock);
            for (command, answer) in commands.iter().zip(&answers) {
                prop_assert_eq!(verdict(answer), oracle.run(command), "{:?} at {}", command, clock);
            }
            let counts = group.summary().counts;
            prop_assert_eq!(Compartment::ALL.map(|compartment| counts.get(compartment) as i64), oracle.counts);
        }
    }

    #[test]
    fn a_batch_answers_as_its_commands_one_by_one(history in history()) {
        let (mut batched, mut single, mut clients) = (Group::default(), Group::default(), Clients::default());
        for (pause, wishes) in &history {
            let (clock, commands) = clients.batch(*pause, wishes);
            // A shelf that is filled and emptied within one batch leaves nothing in the outbox, so only one of the two may
            // have had something to clear, and with it a reason to write the hour down.
            let hour = |group: &Group| group.summary().time_unix_ms;
            let clock = clock.max(hour(&batched)).max(hour(&single));
            let together = batched.batch(&commands, clock);
            let apart = commands.iter().map(|command| single.one(command.clone(), clock)).collect();
            prop_assert_eq!(unbatched(together), unbatched(apart));
            prop_assert_eq!(batched.summary().counts, single.summary().counts);
        }
    }

    #[test]
    fn a_batch_sent_again_at_once_changes_no_count(history in history()) {
        let (mut group, mut clients) = (Group::default(), Clients::default());
        for (pause, wishes) in &history {
            let (clock, commands) = clients.batch(*pause, wishes);
            let first = group.batch(&commands, clock);
            // A reader clears only what it has read; these clear whatever comes.
            let clears = |command: &StockCommand| matches!(command, StockCommand::ClearOutbox { .. });
            let granted = commands.iter().zip(&first);
            let granted: Vec<_> =
                granted.filter(|(command, answer)| answer.is_ok() && !clears(command)).collect();
            let before = group.clone();
            for (command, _) in granted {
                let _ = group.one(command.clone(), clock);
            }
            prop_assert_eq!(&group, &before);
        }
    }
}
