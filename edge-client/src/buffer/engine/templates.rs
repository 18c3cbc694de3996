//! Templates and targets that open requests refer to by number. What nobody refers to any more is kept for a while, since
//! the next request of a device mostly is like its last one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::buffer::queue::Ranks;
use crate::buffer::record::Target;
use crate::buffer::request::Template;

/// Templates without an open request that are kept.
const MAX_UNUSED: usize = 512;

/// A template in use.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) template: Arc<Template>,
    pub(crate) target: u32,
    pub(crate) open: u64,
}

/// A channel and chaincode with waiting requests.
#[derive(Debug)]
pub(crate) struct TargetState {
    pub(crate) target: Target,
    pub(crate) ranks: Ranks,
    /// Nothing is sent before this time.
    pub(crate) paused_until: u64,
    /// It was paused, and nothing got through since.
    pub(crate) probing: bool,
    templates: u32,
}

/// All that open requests refer to.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    by_id: HashMap<u32, Used>,
    ids: HashMap<Arc<Template>, u32>,
    pub(crate) targets: BTreeMap<u32, TargetState>,
    target_ids: HashMap<Target, u32>,
    last_template: u32,
    last_target: u32,
    /// Templates whose last open request has ended, in that order; they may be in use again.
    unused: VecDeque<u32>,
}

impl Templates {
    /// The number of a template, with one more open request referring to it.
    pub(crate) fn refer(&mut self, template: &Template) -> u32 {
        if let Some(id) = self.ids.get(template) {
            if let Some(used) = self.by_id.get_mut(id) {
                used.open += 1;
            }
            return *id;
        }
        let target = Target {
            channel: template.channel.clone(),
            chaincode: template.chaincode.clone(),
        };
        let target_id = match self.target_ids.get(&target) {
            Some(id) => *id,
            None => {
                self.last_target += 1;
                self.target_ids.insert(target.clone(), self.last_target);
                self.targets.insert(
                    self.last_target,
                    TargetState {
                        target,
                        ranks: Ranks::default(),
                        paused_until: 0,
                        probing: false,
                        templates: 0,
                    },
                );
                self.last_target
            }
        };
        if let Some(state) = self.targets.get_mut(&target_id) {
            state.templates += 1;
        }
        self.last_template += 1;
        let id = self.last_template;
        let template = Arc::new(template.clone());
        self.ids.insert(Arc::clone(&template), id);
        self.by_id.insert(
            id,
            Used {
                template,
                target: target_id,
                open: 1,
            },
        );
        id
    }

    /// One open request less refers to a template.
    pub(crate) fn release(&mut self, id: u32) {
        let Some(used) = self.by_id.get_mut(&id) else {
            return;
        };
        used.open -= 1;
        if used.open > 0 {
            return;
        }
        self.unused.push_back(id);
        if self.unused.len() > MAX_UNUSED
            && let Some(oldest) = self.unused.pop_front()
            && !self.unused.contains(&oldest)
            && self.by_id.get(&oldest).is_some_and(|used| used.open == 0)
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, id: u32) {
        let Some(used) = self.by_id.remove(&id) else {
            return;
        };
        self.ids.remove(&used.template);
        if let Some(state) = self.targets.get_mut(&used.target) {
            state.templates -= 1;
            if state.templates == 0
                && let Some(state) = self.targets.remove(&used.target)
            {
                self.target_ids.remove(&state.target);
            }
        }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Used> {
        self.by_id.get(&id)
    }

    pub(crate) fn ranks_of(&mut self, template: u32) -> Option<&mut Ranks> {
        let target = self.by_id.get(&template)?.target;
        self.targets.get_mut(&target).map(|state| &mut state.ranks)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Used)> {
        self.by_id.iter().map(|(id, used)| (*id, used))
    }
}
