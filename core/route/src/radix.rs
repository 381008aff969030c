//! Trees of bytes: which of the known prefixes does a text begin with?
//!
//! Many trees share one arena. The children of a node lie beside each other in the order of their
//! first byte, and those bytes beside each other, too.

/// An arena of radix trees. Frozen once it is built.
#[derive(Clone, Debug, Default)]
pub(crate) struct Radix {
    nodes: Vec<Node>,
    /// The byte by which each node is chosen among its siblings.
    firsts: Vec<u8>,
    labels: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// For a child without its first byte, by which it is chosen.
    label: u32,
    label_length: u32,
    children: u32,
    child_count: u16,
    value: u32,
}

/// No value, or no tree.
pub(crate) const NONE: u32 = u32::MAX;

impl Radix {
    /// Adds a tree of entries that are sorted and differ; returns its root, [`NONE`] of no entries.
    pub(crate) fn add(&mut self, entries: &[(Vec<u8>, u32)]) -> u32 {
        if entries.is_empty() {
            return NONE;
        }
        let root = self.push(0);
        // Nodes whose entries (a range) share the first `depth` bytes, which lie above the node.
        // Without recursion: a key may be as long as its author likes.
        let mut open = std::collections::VecDeque::from([(root, 0..entries.len(), 0_usize)]);
        while let Some((node, mut range, depth)) = open.pop_front() {
            let first = &entries[range.start].0;
            let last = &entries[range.end - 1].0;
            let shared = first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
            let below = depth + shared;
            let label = self.labels.len() as u32;
            self.labels.extend_from_slice(&first[depth..below]);
            let mut value = NONE;
            if first.len() == below {
                value = entries[range.start].1;
                range.start += 1;
            }
            let children = self.nodes.len() as u32;
            while !range.is_empty() {
                let byte = entries[range.start].0[below];
                let same = entries[range.clone()].partition_point(|(key, _)| key[below] == byte);
                let child = self.push(byte);
                open.push_back((child, range.start..range.start + same, below + 1));
                range.start += same;
            }
            self.nodes[node as usize] = Node {
                label,
                label_length: shared as u32,
                children,
                child_count: (self.nodes.len() as u32 - children) as u16,
                value,
            };
        }
        root
    }

    /// Reports the value of every key that the text begins with, and the key's length, the shortest
    /// first.
    #[inline]
    pub(crate) fn walk(&self, root: u32, text: &[u8], mut report: impl FnMut(u32, usize)) {
        let Some(mut node) = self.nodes.get(root as usize) else { return };
        let mut depth = 0;
        loop {
            let label = &self.labels[node.label as usize..][..node.label_length as usize];
            if !text[depth..].starts_with(label) {
                return;
            }
            depth += label.len();
            if node.value != NONE {
                report(node.value, depth);
            }
            if node.child_count == 0 {
                return;
            }
            let Some(next) = text.get(depth) else { return };
            let first = node.children as usize;
            let bytes = &self.firsts[first..][..usize::from(node.child_count)];
            let found = if bytes.len() <= 16 {
                bytes.iter().position(|byte| byte == next)
            } else {
                bytes.binary_search(next).ok()
            };
            let Some(at) = found else { return };
            node = &self.nodes[first + at];
            depth += 1;
        }
    }

    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.firsts.shrink_to_fit();
        self.labels.shrink_to_fit();
    }

    fn push(&mut self, first: u8) -> u32 {
        let at = self.nodes.len() as u32;
        self.nodes.push(Node { label: 0, label_length: 0, children: 0, child_count: 0, value: NONE });
        self.firsts.push(first);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_reports_every_prefix_from_the_shortest() {
        let mut radix = Radix::default();
        let other = radix.add(&[(b"/".to_vec(), 100)]);
        let mut keys = ["", "/", "/api", "/api/v1", "/apix", "/b", "/api/v2/long/label"];
        keys.sort_unstable();
        let entries: Vec<_> =
            keys.iter().enumerate().map(|(at, key)| (key.as_bytes().to_vec(), at as u32)).collect();
        let root = radix.add(&entries);
        for text in
            ["", "/", "/a", "/api", "/api/", "/api/v1x", "/apixy", "/api/v2/long/label/more", "x", "/bb"]
        {
            let mut found = Vec::new();
            radix.walk(root, text.as_bytes(), |value, depth| found.push((keys[value as usize], depth)));
            let expected: Vec<_> =
                keys.iter().filter(|key| text.starts_with(**key)).map(|key| (*key, key.len())).collect();
            assert_eq!(found, expected, "{text}");
        }
        let mut found = Vec::new();
        radix.walk(other, b"/api", |value, _| found.push(value));
        radix.walk(NONE, b"/api", |value, _| found.push(value));
        assert_eq!(found, [100]);
    }

    #[test]
    fn a_node_may_have_a_child_for_every_byte() {
        let entries: Vec<_> = (0..=255_u8).map(|byte| (vec![byte], u32::from(byte))).collect();
        let mut radix = Radix::default();
        let root = radix.add(&entries);
        for byte in 0..=255_u8 {
            let mut found = Vec::new();
            radix.walk(root, &[byte, 0], |value, _| found.push(value));
            assert_eq!(found, [u32::from(byte)]);
        }
    }
}
