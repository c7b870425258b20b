//! Stages as bytes among Ballista's plans: each carries the seal of the cluster's secret, and without it nothing of it is read.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use millstream_core::{Error, ErrorKind, Result, codec};

use crate::failure;
use crate::secret::{SEAL, Secret};
use crate::stage::{StageDesc, StageExec};

const MAGIC: &[u8; 8] = b"mstage1\n";

/// Reads and writes stages, and leaves all other plans to Ballista.
#[derive(Debug)]
pub(crate) struct StageCodec {
    secret: Secret,
    others: BallistaPhysicalExtensionCodec,
}

impl StageCodec {
    pub(crate) fn new(secret: Secret) -> StageCodec {
        StageCodec { secret, others: BallistaPhysicalExtensionCodec::default() }
    }

    fn written(&self, desc: &StageDesc) -> Result<Vec<u8>> {
        let body = codec::encode(desc)?;
        Ok([&MAGIC[..], &self.secret.seal(&[MAGIC, &body])?, &body].concat())
    }

    fn read(&self, sealed: &[u8]) -> Result<StageDesc> {
        let Some((seal, body)) = sealed.split_at_checked(SEAL) else {
            return Err(Error::new(ErrorKind::Data, "a plan ends in the middle of its seal"));
        };
        if !self.secret.holds(seal, &[MAGIC, body]) {
            let text =
                "a plan was refused: it does not carry the seal of this cluster's secret, or was changed on its way";
            return Err(Error::new(ErrorKind::Data, text));
        }
        codec::decode(body)
    }
}

impl PhysicalExtensionCodec for StageCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Some(sealed) = bytes.strip_prefix(MAGIC) else {
            return self.others.try_decode(bytes, inputs, context, converter);
        };
        let desc = self.read(sealed).map_err(|error| failure::told(&error))?;
        Ok(Arc::new(StageExec::new(Arc::new(desc), inputs.to_vec())))
    }

    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DfResult<()> {
        let Some(stage) = plan.downcast_ref::<StageExec>() else {
            return self.others.try_encode(plan, bytes, converter);
        };
        bytes.extend(self.written(&stage.desc).map_err(|error| failure::told(&error))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Readers, TaskStamp, Work};

    fn desc() -> StageDesc {
        let task = TaskStamp { slice: vec![1], at_once: 1, attempt: 0, elsewhere: false, programs: Vec::new() };
        StageDesc { engine: 3, stage: 1, work: Work::Pass, readers: Readers::Driver(9), tried: 0, task }
    }

    #[test]
    fn a_plan_comes_back_where_the_secret_is_the_same() {
        let codec = StageCodec::new(Secret::fresh().unwrap());
        let bytes = codec.written(&desc()).unwrap();
        assert_eq!(codec.read(&bytes[MAGIC.len()..]).unwrap().engine, 3);
    }

    #[test]
    fn forged_changed_and_cut_plans_are_refused_before_they_are_read() {
        let (ours, theirs) = (StageCodec::new(Secret::fresh().unwrap()), StageCodec::new(Secret::fresh().unwrap()));
        let bytes = ours.written(&desc()).unwrap()[MAGIC.len()..].to_vec();
        assert_eq!(theirs.read(&bytes).unwrap_err().kind(), ErrorKind::Data);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(ours.read(&changed).unwrap_err().to_string().contains("refused"), "byte {at}");
            assert!(ours.read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
