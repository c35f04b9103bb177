//! The linearizable register group: Paxos over the rows of one partition key.
