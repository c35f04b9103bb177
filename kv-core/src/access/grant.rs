//! A role on all buckets whose names begin alike.

use std::{fmt, str::FromStr};

/// Longest prefix: that of the longest name of a bucket.
const PREFIX_BYTES_MAX: usize = 63;
/// How people write "all buckets".
const ALL: &str = "*";

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read rows of a bucket.
    Read,
    /// Write rows of a bucket; says nothing of what was there, but for conditions, which need [`Role::Read`] too.
    Write,
    /// Make buckets and look after them; on all buckets: look after the whole cluster, its tokens included.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// As people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Admin => 4,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roles(u8);

impl Roles {
    /// The set of these.
    #[must_use]
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }

    /// Whether a role is among them.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether it is the empty set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order read, write, admin.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

/// Roles on all buckets whose names begin with a prefix. People write `read,write:cart`, and `*` for all buckets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    roles: Roles,
    prefix: String,
}

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// What: no roles, or no prefix.
    #[error(
        "`{0}` is no grant: write ROLES:PREFIX, for example `read,write:cart`, or `read:*` for all buckets"
    )]
    Form(String),
    /// What: no such role.
    #[error("there is no role `{0}`: the roles are read, write and admin")]
    Role(String),
    /// What: a prefix that no bucket's name begins with.
    #[error(
        "no bucket's name begins with `{0}`: use a-z, 0-9, `-` and `_`, beginning with a letter, or `*` for all buckets"
    )]
    Prefix(String),
}

impl Grant {
    /// Roles on all buckets whose names begin with `prefix`; an empty one means all buckets.
    ///
    /// # Errors
    /// When there are no roles, or no bucket's name can begin so.
    pub fn new(roles: Roles, prefix: impl Into<String>) -> Result<Self, GrantError> {
        let prefix = prefix.into();
        if roles.is_empty() {
            return Err(GrantError::Form(format!(":{prefix}")));
        }
        let fits = prefix.len() <= PREFIX_BYTES_MAX
            && prefix
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && prefix
                .bytes()
                .next()
                .is_none_or(|first| first.is_ascii_lowercase());
        if !fits {
            return Err(GrantError::Prefix(prefix));
        }
        Ok(Self { roles, prefix })
    }

    /// What it allows.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Where; empty for all buckets.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it allows `role` on a bucket.
    #[must_use]
    pub fn allows(&self, role: Role, bucket: &str) -> bool {
        self.roles.has(role) && bucket.starts_with(&self.prefix)
    }

    /// Whether it allows `role` on every bucket there may ever be.
    #[must_use]
    pub fn allows_everywhere(&self, role: Role) -> bool {
        self.roles.has(role) && self.prefix.is_empty()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.roles.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{role}")?;
        }
        let prefix = if self.prefix.is_empty() {
            ALL
        } else {
            &self.prefix
        };
        write!(f, ":{prefix}")
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let form = || GrantError::Form(text.to_owned());
        let (roles, prefix) = text.split_once(':').ok_or_else(form)?;
        // Nothing after the colon is a slip, not a wish for everything.
        if prefix.is_empty() || roles.is_empty() {
            return Err(form());
        }
        let role = |name: &str| {
            let found = Role::ALL.into_iter().find(|role| role.as_str() == name);
            found.ok_or_else(|| GrantError::Role(name.to_owned()))
        };
        let roles = roles.split(',').map(role).collect::<Result<Vec<_>, _>>()?;
        let prefix = if prefix == ALL { "" } else { prefix };
        Self::new(Roles::of(roles), prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<&str, GrantError>) {
        let shown = text.parse::<Grant>().map(|grant| grant.to_string());
        assert_eq!(shown, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn grants_are_read_as_people_write_them() {
        check("read:cart", Ok("read:cart"));
        check("write,read:*", Ok("read,write:*"));
        check("admin,admin:a_b-1", Ok("admin:a_b-1"));
        for form in ["", "read", ":", "read:", ":cart"] {
            check(form, Err(GrantError::Form(form.to_owned())));
        }
        check("own:cart", Err(GrantError::Role("own".to_owned())));
        check("read,:cart", Err(GrantError::Role(String::new())));
        for prefix in ["Cart", "1x", "-", "a*", "a:b"] {
            let text = format!("read:{prefix}");
            check(&text, Err(GrantError::Prefix(prefix.to_owned())));
        }
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_name() {
        let grant: Grant = "read:cart".parse().unwrap();
        assert!(grant.allows(Role::Read, "cart") && grant.allows(Role::Read, "carts"));
        assert!(!grant.allows(Role::Read, "car") && !grant.allows(Role::Read, "my-cart"));
        assert!(!grant.allows(Role::Write, "cart") && !grant.allows(Role::Admin, "cart"));
        assert!(!grant.allows_everywhere(Role::Read));
        let all: Grant = "admin:*".parse().unwrap();
        assert!(all.allows_everywhere(Role::Admin) && !all.allows_everywhere(Role::Read));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(bits in 1_u8..8, prefix in "([a-z][a-z0-9_-]{0,20})?") {
            let roles = Roles::of(Role::ALL.into_iter().filter(|role| bits & role.bit() != 0));
            let grant = Grant::new(roles, prefix).unwrap();
            prop_assert_eq!(grant.to_string().parse::<Grant>(), Ok(grant));
        }
    }
}
