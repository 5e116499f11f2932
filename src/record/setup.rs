//! Carries a plan out, and puts everything back in reverse order, whatever happens in between.

use super::plan::{Plan, Step};
use super::system::System;
use crate::error::Result;

/// Steps that were carried out. Dropping it puts them back.
pub struct Setup<'a> {
    system: &'a System,
    done: Vec<Step>,
}

impl<'a> Setup<'a> {
    /// Carries out a recording's steps.
    ///
    /// # Errors
    /// `Io` where the kernel refuses one; those before it have been put back then.
    pub fn carry_out(system: &'a System, plan: &Plan) -> Result<Self> {
        Self::steps(system, &plan.steps)
    }

    /// Carries out steps.
    ///
    /// # Errors
    /// As [`Setup::carry_out`].
    pub fn steps(system: &'a System, steps: &[Step]) -> Result<Self> {
        let mut setup = Self { system, done: Vec::new() };
        for step in steps {
            match step {
                Step::Instance(path) => system.make_instance(path)?,
                Step::Write { path, value, .. } => system.write(path, value)?,
            }
            setup.done.push(step.clone());
        }
        Ok(setup)
    }

    /// Puts everything back.
    ///
    /// # Errors
    /// The first that the kernel refused; all others were put back.
    pub fn put_back(mut self) -> Result<()> {
        self.undo()
    }

    /// Leaves everything as it is now.
    pub fn keep(mut self) {
        self.done.clear();
    }

    fn undo(&mut self) -> Result<()> {
        let mut result = Ok(());
        for step in self.done.drain(..).rev() {
            let undone = match &step {
                Step::Instance(path) => self.system.remove_instance(path),
                Step::Write { path, put_back: Some(value), .. } => self.system.write(path, value),
                Step::Write { put_back: None, .. } => Ok(()),
            };
            result = result.and(undone);
        }
        result
    }
}

impl Drop for Setup<'_> {
    fn drop(&mut self) {
        // Only on the way out of an error, which is what the user hears of.
        let _ = self.undo();
    }
}
