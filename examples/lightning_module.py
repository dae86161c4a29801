"""Lightning: return the optimiser from ``configure_optimizers``. (Leave out releases 2.6.2 and 2.6.3.)"""

import lightning
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import orthoviz as ov


class Classifier(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model, self.losses = model, []

    def training_step(self, batch, _):
        images, labels = batch
        loss = cross_entropy(self.model(images), labels)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return ov.OrthogonalSGD(ov.param_groups(self.model), lr=0.01, momentum=0.9)


def train(model, batches):
    module = Classifier(model)
    quiet = dict(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    loader = DataLoader(batches, batch_size=None)  # they are batches already
    lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(module, loader)
    return module.losses
