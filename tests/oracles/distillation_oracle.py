"""Distillation row by row, as arXiv 2006.10029 writes it in equation 2, then the mean over the rows."""

import math


def distillation(student_logits, teacher_logits, temperature):
    def probabilities(logits):
        powers = [math.exp(logit / temperature) for logit in logits]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for student, teacher in zip(student_logits, teacher_logits, strict=True):
        pairs = zip(probabilities(teacher), probabilities(student), strict=True)
        total -= sum(p_teacher * math.log(p_student) for p_teacher, p_student in pairs)
    return total / len(student_logits)
