//! Answers to "why" and "what if": `naru check`, `naru diff`, versions of what was in force, `naru explain` of a naru
//! that runs, and an editor's questions.

mod asked;
mod checked;
mod istio;
mod replayed;
mod running;
mod edited;
