"""R@1 and zero-shot top-1 of two towers, by the protocols of kinship evaluate."""
from pathlib import Path

import numpy
from dataset import Classes, Dataset
from preparation import Captions, Images

BLOCK = 64


def accuracies(folder: Path, visual, textual, evaluations):
    """The figures of each evaluation by its title."""
    images, captions = Images(folder), Captions(folder, textual.context)
    found = {}
    for one in evaluations:
        dataset = Dataset(one["dataset"])
        measure = retrieval if one["kind"] == "retrieval" else zero_shot
        found[one["title"]] = measure(dataset, one, lambda items: rows(visual, images, items), captions,
                                      lambda texts: rows(textual, captions, texts, whole=True))
    return found


def rows(tower, prepare, items, whole=False):
    """Embeddings [n, d] of images, prepared one by one, or of captions, prepared together."""
    blocks, block = [], []

    def finish():
        blocks.append(tower(prepare(block) if whole else numpy.stack([prepare(item) for item in block])))
        block.clear()

    for item in items:
        block.append(item)
        if len(block) == BLOCK:
            finish()
    if block:
        finish()
    return numpy.concatenate(blocks).astype(numpy.float32)


def nearest(queries, candidates):
    """The first of the nearest candidates of each query."""
    starts = range(0, len(queries), 1024)
    return numpy.concatenate([(queries[at:at + 1024] @ candidates.T).argmax(1) for at in starts])


def retrieval(dataset, evaluation, embed_images, captions, embed_texts):
    texts, image_of = [], []

    def images():
        for number, (image, own, _) in enumerate(dataset.samples()):
            own = own[:1] if evaluation["captions"] == "first" else own
            texts.extend(own)
            image_of.extend([number] * len(own))
            yield image

    image_rows = embed_images(images())
    numbers = list(range(len(texts)))
    if evaluation["duplicates"] == "hits":
        # Each text is one candidate, an answer for every image that has it.
        numbers = captions.numbers(texts)
    first = {}
    for caption, number in enumerate(numbers):
        first.setdefault(number, caption)
    candidates = list(first)
    text_rows = embed_texts([texts[first[number]] for number in candidates])
    images_of, texts_of = {}, {}
    for number, image in zip(numbers, image_of):
        images_of.setdefault(number, set()).add(image)
        texts_of.setdefault(image, set()).add(number)
    asked = sorted(texts_of)
    to_text = nearest(image_rows[asked], text_rows)
    to_image = nearest(text_rows, image_rows)
    return {"i2t R@1": share(candidates[at] in texts_of[image] for image, at in zip(asked, to_text)),
            "t2i R@1": share(at in images_of[number] for number, at in zip(candidates, to_image))}


def zero_shot(dataset, evaluation, embed_images, captions, embed_texts):
    labels = [label for _, _, label in dataset.samples()]
    classes = Classes(dataset, evaluation, labels)
    answers = [classes.place[label] for label in labels if label in classes.place]
    found = embed_images(image for image, _, label in dataset.samples() if label in classes.place)
    means = [embed_texts(classes.sentences(name)).mean(0) for name in classes.names]
    class_rows = numpy.stack([mean / numpy.linalg.norm(mean) for mean in means])
    return {"top-1": share(at == answer for at, answer in zip(nearest(found, class_rows), answers))}


def share(hits) -> float:
    hits = [bool(hit) for hit in hits]
    return sum(hits) / len(hits)
