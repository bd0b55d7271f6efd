//! Layouts as messages have them.

use std::fmt::{self, Write};

use crate::layout::{Layouts, Type, TypeId};
use crate::plan::{Change, What};

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => f.write_str("the state ")?,
            path => write!(f, "`{path}` ")?,
        }
        match self.what {
            What::Moved { from, to } => write!(f, "moves from byte {from} to {to}"),
            What::Widened { from, to } => write!(f, "has {to} bits where it had {from}"),
            What::Grown { from, to } => write!(f, "has {to} elements where it had {from}"),
            What::Added { .. } => f.write_str("is new"),
            What::Removed => f.write_str("is gone"),
        }
    }
}

/// Members that are listed of one structure.
const MOST: usize = 64;

impl Layouts {
    /// A type with its size, and where its members are: `struct world, 16 bytes: 0 time (float of
    /// 64 bits), 8 agents (int32_t)`. One level deep.
    pub fn describe(&self, id: TypeId) -> String {
        let mut text = self.name(id);
        if let Some(size) = self.size(id) {
            let _ = write!(text, ", {size} bytes");
        }
        let Some(Type::Struct { members, .. } | Type::Union { members, .. }) = self.get(id) else {
            return text;
        };
        for (at, member) in members.iter().take(MOST).enumerate() {
            let name = if member.name.is_empty() { "(unnamed)" } else { &member.name };
            let bits = member.bits.map(|bits| format!(" :{}", bits.count)).unwrap_or_default();
            let of = self.name(member.of);
            let before = if at == 0 { ": " } else { ", " };
            let _ = write!(text, "{before}{} {name}{bits} ({of})", member.offset);
        }
        if members.len() > MOST {
            let _ = write!(text, ", and {} more", members.len() - MOST);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::{Layouts, Member, Type};

    #[test]
    fn members_with_their_places() {
        let mut layouts = Layouts::new();
        let time = layouts.add(Type::Float { size: 8 });
        let count = layouts.add(Type::Integer { size: 4, signed: true });
        let member = |name: &str, offset, of| Member { name: name.into(), offset, of, bits: None };
        let members = vec![member("time", 0, time), member("agents", 8, count)];
        let world = layouts.add(Type::Struct { name: "struct world".into(), size: 16, members });
        assert_eq!(
            layouts.describe(world),
            "struct world, 16 bytes: 0 time (float of 64 bits), 8 agents (int32_t)"
        );
        assert_eq!(layouts.describe(count), "int32_t, 4 bytes");
    }
}
