//! Single blows, and what undoes them.

use serde::{Deserialize, Serialize};

/// One blow, or its undoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Signal 9. In a simulation the power fails with it: what was not synced is lost or torn.
    Kill,
    /// Signal 15, and wait.
    Stop,
    /// Start again.
    Start,
    /// Signal STOP. In a simulation nothing reaches or leaves the node, and nothing of it is lost.
    Pause,
    /// Signal CONT.
    Resume,
    /// Nothing passes on these links, in these directions.
    Cut,
    /// Everything passes again.
    Mend,
    /// Messages on these links take `amount` milliseconds.
    Delay,
    /// Messages on these links take up to `amount` milliseconds, each its own time.
    Shuffle,
    /// Of a thousand packets on these links `amount` are lost, and sent again later.
    Lose,
    /// These links are as usual.
    Calm,
    /// The time of day jumps by `amount` milliseconds.
    SetClock,
    /// The time of day runs at `amount` thousandths of its pace.
    BendClock,
    /// The time of day is right, and runs at its pace.
    MendClock,
    /// The disk has no room for more.
    FillDisk,
    /// It has again.
    FreeDisk,
    /// The next sync fails; on real nodes every one from then on.
    FailSync,
    /// Power fails as soon as something unsynced is on its way.
    Tear,
    /// Killed, and a bit of the disk flips.
    FlipBit,
    /// Killed, and the disk is empty.
    Wipe,
    /// Its network carries `amount` kilobits a second of what it sends.
    Narrow,
    /// Its network carries as much as usual.
    Widen,
    /// It gets `amount` thousandths of one processor.
    StarveCpu,
    /// It gets `amount` mebibytes of memory more than it has, and is killed when that does not do.
    StarveMemory,
    /// It gets as much of the machine as it likes.
    Feed,
    /// These nodes, which were no members, are started and let in; copies begin to move to them.
    Join,
    /// These members are to leave; copies begin to move away from them.
    Leave,
    /// The first half of these leaves, and the other half, which were no members, takes their places.
    Replace,
    /// It is waited for until nothing moves; who has left is stopped, and may not come back.
    Settle,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 29] = [
        Action::Kill,
        Action::Stop,
        Action::Start,
        Action::Pause,
        Action::Resume,
        Action::Cut,
        Action::Mend,
        Action::Delay,
        Action::Shuffle,
        Action::Lose,
        Action::Calm,
        Action::SetClock,
        Action::BendClock,
        Action::MendClock,
        Action::FillDisk,
        Action::FreeDisk,
        Action::FailSync,
        Action::Tear,
        Action::FlipBit,
        Action::Wipe,
        Action::Narrow,
        Action::Widen,
        Action::StarveCpu,
        Action::StarveMemory,
        Action::Feed,
        Action::Join,
        Action::Leave,
        Action::Replace,
        Action::Settle,
    ];

    /// Its name in histories.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Stop => "stop",
            Action::Start => "start",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Cut => "cut",
            Action::Mend => "mend",
            Action::Delay => "delay",
            Action::Shuffle => "shuffle",
            Action::Lose => "lose",
            Action::Calm => "calm",
            Action::SetClock => "set-clock",
            Action::BendClock => "bend-clock",
            Action::MendClock => "mend-clock",
            Action::FillDisk => "fill-disk",
            Action::FreeDisk => "free-disk",
            Action::FailSync => "fail-sync",
            Action::Tear => "tear",
            Action::FlipBit => "flip-bit",
            Action::Wipe => "wipe",
            Action::Narrow => "narrow",
            Action::Widen => "widen",
            Action::StarveCpu => "starve-cpu",
            Action::StarveMemory => "starve-memory",
            Action::Feed => "feed",
            Action::Join => "join",
            Action::Leave => "leave",
            Action::Replace => "replace",
            Action::Settle => "settle",
        }
    }

    /// Whether it makes things worse.
    #[must_use]
    pub fn is_blow(self) -> bool {
        self.undo() != self
    }

    /// True when it changes who the members are, or waits for such a change to end.
    #[must_use]
    pub fn changes_members(self) -> bool {
        self.undo() == Action::Settle
    }

    /// What undoes it; what makes things better undoes itself.
    #[must_use]
    pub fn undo(self) -> Action {
        match self {
            Action::Kill
            | Action::Stop
            | Action::Start
            | Action::FailSync
            | Action::Tear
            | Action::FlipBit
            | Action::Wipe => Action::Start,
            Action::Pause | Action::Resume => Action::Resume,
            Action::Cut | Action::Mend => Action::Mend,
            Action::Delay | Action::Shuffle | Action::Lose | Action::Calm => Action::Calm,
            Action::SetClock | Action::BendClock | Action::MendClock => Action::MendClock,
            Action::FillDisk | Action::FreeDisk => Action::FreeDisk,
            Action::Narrow | Action::Widen => Action::Widen,
            Action::StarveCpu | Action::StarveMemory | Action::Feed => Action::Feed,
            Action::Join | Action::Leave | Action::Replace | Action::Settle => Action::Settle,
        }
    }
}
