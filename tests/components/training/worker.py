"""One machine of a pretraining: runs the run_fn on the FnArgs that standard input has as JSON; TF_CONFIG names it."""

import json
import sys

from tfx.components.trainer.fn_args_utils import FnArgs

from components.training import pretrain

if __name__ == "__main__":
    pretrain.run_fn(FnArgs(**json.load(sys.stdin)))
